"""The field that pictures are dropped on."""

from typing import Any

from fam_jax._core.brief import address
from fam_jax._core.extras import needed

with needed("the app needs", "app"):
    import gradio as gr  # pyright: ignore[reportMissingImports]

_HEIGHT = 110  # pixels


def upload(label: str, name: str, **options: Any) -> gr.File:
    """A field by its label, and its name in the page: it takes what was uploaded here.

    An address in the place of a file is not followed; other paths gradio refuses by itself. The
    field is not to be updated by an event: gradio would make another one of it.
    """
    field = gr.File(label=label, elem_id=f"fam-{name}", height=_HEIGHT, **options)
    move = field.async_move_resource_to_block_cache

    async def moved(url_or_file_path: Any) -> str | None:
        if address(url_or_file_path):
            raise ValueError("an address is no upload")
        return await move(url_or_file_path)

    # No class of its own: gradio writes a file beside the source of each.
    field.async_move_resource_to_block_cache = moved
    return field
