"""A picture, and the nearest of an index with their maps."""

from fam_jax._core.extras import needed
from fam_jax.apps.live import html, search
from fam_jax.apps.live.search import Gallery
from fam_jax.apps.live.shared import DEFAULT, ONE, App, in_lines
from fam_jax.apps.live.upload import upload

with needed("the app needs", "app"):
    import gradio as gr  # pyright: ignore[reportMissingImports]


def search_tab(app: App, gallery: Gallery) -> None:
    """The components, and what they do."""
    opened = gallery.opened
    with gr.Row():
        query = upload("Picture", "search")
        with gr.Column():
            method = gr.Dropdown(
                [DEFAULT, *opened.methods], value=DEFAULT, label="Method", min_width=200
            )
            top = gr.Slider(1, 20, value=5, step=1, label="Hits")
    status = gr.HTML(html.lines(f"Drop a picture: the nearest of {len(gallery.index):,} appear."))
    shown = gr.HTML(elem_id="fam-hits")

    @in_lines(("",))
    def find(query, method, top):
        if not query:
            return ["Waiting for a picture."], ""
        wanted = "" if method == DEFAULT else method
        picture = opened.read(app.path(query))
        found = search.nearest(gallery, picture, int(top), opened.layers[0], wanted)
        said = found.answer.lines if found.answer else []
        return [*said, *found.left_out], html.hits(found)

    gr.on(
        [query.change, method.input, top.release],
        find,
        [query, method, top],
        [status, shown],
        trigger_mode="always_last",
        **ONE,
    )
