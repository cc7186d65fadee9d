"""The page: a tab for a pair, one for a search, one for many methods."""

from fam_jax._core.extras import needed
from fam_jax.apps.live import html
from fam_jax.apps.live.compare_tab import compare_tab
from fam_jax.apps.live.pair_tab import pair_tab
from fam_jax.apps.live.search_tab import search_tab
from fam_jax.apps.live.shared import App

with needed("the app needs", "app"):
    import gradio as gr  # pyright: ignore[reportMissingImports]

TITLE = "Why does a network find two pictures alike?"


def build(app: App) -> gr.Blocks:
    """The page of an app."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.HTML(f"<h1>{TITLE}</h1>{html.opacity()}")
        with gr.Tabs():
            with gr.Tab("Pair"):
                pair_tab(app)
            if app.gallery is not None:
                with gr.Tab("Search"):
                    search_tab(app, app.gallery)
            with gr.Tab("Compare"):
                compare_tab(app)
    return page
