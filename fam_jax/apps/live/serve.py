"""The server of the page: of this machine alone unless told otherwise, and no request leaves it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# Before gradio is imported, which else asks for its newest version and keeps all that was shown in
# the browser.
os.environ["GRADIO_ANALYTICS_ENABLED"] = os.environ["GRADIO_RUN_HISTORY"] = "False"


@contextmanager
def folder() -> Iterator[Path]:
    """Where uploads and results lie as long as the page is served."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    with TemporaryDirectory(prefix="fam-jax-app-") as scratch:
        os.environ["GRADIO_TEMP_DIR"] = scratch
        try:
            yield Path(scratch)
        finally:
            if before is None:
                del os.environ["GRADIO_TEMP_DIR"]
            else:
                os.environ["GRADIO_TEMP_DIR"] = before


def launch(page: Any, host: str, port: int | None, *, browser: bool) -> str:
    """Serve a page of `page.build` from threads of its own; its address.

    OSError where the port is taken.
    """
    from gradio.themes import Base  # pyright: ignore[reportMissingImports]
    from gradio.themes.utils.fonts import Font  # pyright: ignore[reportMissingImports]

    fonts = [Font(name) for name in ("system-ui", "sans-serif")]
    mono = [Font(name) for name in ("ui-monospace", "monospace")]
    script = _part("script.js")
    _, address, _ = page.queue(default_concurrency_limit=4).launch(
        server_name=host,
        server_port=port,
        inbrowser=browser,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        ssr_mode=False,
        footer_links=[],
        theme=Base(font=fonts, font_mono=mono),
        css=_part("style.css"),
        head=f"<script>{script}</script>",
    )
    return address


def _part(name: str) -> str:
    return files("fam_jax.apps.live").joinpath(name).read_text("utf-8")
