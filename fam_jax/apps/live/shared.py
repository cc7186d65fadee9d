"""What the tabs share: the networks and files of an app, and how handlers answer."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from fam_jax._core.brief import message
from fam_jax._core.extras import needed
from fam_jax.apps.live import html
from fam_jax.apps.live.opened import Background, Opened
from fam_jax.apps.live.search import Gallery
from fam_jax.io.pictures import PictureWarning

with needed("the app needs", "app"):
    import gradio as gr  # pyright: ignore[reportMissingImports]

DEFAULT = "default"  # in place of a method's name
# One request at a time computes, whichever session's and whichever tab's it is.
ONE = {"concurrency_id": "network", "concurrency_limit": 1, "show_progress": "minimal"}


@dataclass(frozen=True, eq=False)
class App:
    """What all sessions share, and none changes.

    Attributes:
        opened: a model's name, and what shows the progress over names -> its network, opened once.
        models: the names to choose from, the first one being open.
        folder: where uploads and results lie, and nothing else.
        gallery: what is searched, if anything.
    """

    opened: Callable[..., Opened]
    models: Sequence[str]
    folder: Path
    gallery: Gallery | None = None

    def path(self, file: str) -> Path:
        """A file that was uploaded; ValueError for any other, whatever a request says."""
        path = Path(file).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise ValueError("this file was not uploaded here")
        return path


def network(app: App, opened: Opened) -> tuple[gr.Dropdown, gr.Dropdown]:
    """The lists of models and of layers."""
    return (
        gr.Dropdown(list(app.models), value=app.models[0], label="Model", min_width=200),
        gr.Dropdown(list(opened.layers), value=opened.layers[0], label="Layer", min_width=200),
    )


def background_of(
    app: App, opened: Opened, files: Sequence[str] | None, known: dict[Any, Background]
) -> Background:
    """Embedded once for a session."""
    paths = tuple(app.path(file) for file in files or ())
    key = opened.net.backbone.name, paths
    if key not in known:
        known.clear()
        known[key] = opened.background(paths)
    return known[key]


def in_lines(blank: tuple) -> Callable[[Callable], Callable]:
    """What a handler says first as lines; what goes wrong as one, with `blank` for the rest."""

    def wrap(handler: Callable) -> Callable:
        @wraps(handler)
        def run(*given: Any) -> tuple:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("default", PictureWarning)
                try:
                    said, *rest = handler(*given)
                except Exception as error:  # whatever a stranger's file does: the page goes on
                    return html.lines(_one_line(error), wrong=True), *blank
            said = [*said, *(f"warning: {message(str(one.message))}" for one in told)]
            return html.lines(*said), *rest

        return run

    return wrap


def or_line(handler: Callable, outputs: int) -> Callable:
    """A handler that leaves all as it was where it fails, with a line that says why."""

    @wraps(handler)
    def run(*given: Any, **progress: Any) -> tuple:
        try:
            return "", *handler(*given, **progress)
        except Exception as error:
            return html.lines(_one_line(error), wrong=True), *[gr.skip()] * outputs

    return run


def _one_line(error: Exception) -> str:
    if isinstance(error, ValueError | TypeError | OSError | ImportError):
        return message(error)
    return f"internal error: {type(error).__name__}: {message(error)[:300]}"
