"""The page: gradio's components around what the other files compute."""

import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

from fam_jax._core.brief import message
from fam_jax._core.extras import needed
from fam_jax.apps.live import answers, compare, html, points, search
from fam_jax.apps.live.opened import Background, Opened, Picture
from fam_jax.apps.live.search import Gallery
from fam_jax.apps.live.upload import upload
from fam_jax.io.pictures import PictureWarning
from fam_jax.methods.registry import entry

with needed("the app needs", "app"):
    import gradio as gr  # pyright: ignore[reportMissingImports]

TITLE = "Why does a network find two pictures alike?"
DEFAULT = "default"
PICTURE, SENTENCE = "a picture", "a sentence"
# What the script of the page says of a point becomes an event of gradio's.
_POINTS = "element.addEventListener('fam-point', (event) => trigger('select', event.detail));"
_CURVES = ("fam", "decomposition", "contrastive", "le-grad", "random")  # where nobody chose
_MANY = " (many passes)"
_ONE = {"concurrency_id": "network", "concurrency_limit": 1, "show_progress": "minimal"}


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


class _Asked(NamedTuple):
    """What a session's page shows: a pair that points can be asked of, and its files."""

    model: str
    layer: str
    pictures: tuple[Picture, Picture] | None
    answer: answers.Answer
    folder: Path


def build(app: App) -> gr.Blocks:
    """The page of an app."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.HTML(f"<h1>{TITLE}</h1>{html.opacity()}")
        with gr.Tabs():
            with gr.Tab("Pair"):
                _pair_tab(app)
            if app.gallery is not None:
                with gr.Tab("Search"):
                    _search_tab(app, app.gallery)
            with gr.Tab("Compare"):
                _compare_tab(app)
    return page


def _pair_tab(app: App) -> None:
    first = app.opened(app.models[0])
    with gr.Row():
        query = upload("Picture", "query")
        with gr.Column():
            kind = gr.Radio(
                [PICTURE, SENTENCE],
                value=PICTURE,
                label="Compare with",
                visible=first.tower is not None,
            )
            with gr.Column() as with_picture:
                other = upload("Other picture", "other")
            sentence = gr.Textbox(label="Sentence (Enter asks)", visible=False)
    with gr.Row():
        model, layer = _network(app, first)
        method = gr.Dropdown(
            [DEFAULT, *first.methods], value=DEFAULT, label="Method", min_width=200
        )
    with gr.Accordion("Background: what makes the pair more alike than others?", open=False):
        with gr.Column() as with_pictures:
            others = upload("Other pictures", "background", file_count="multiple")
        sentences = gr.Textbox(label="Other sentences, a line each", lines=3, visible=False)
    status = gr.HTML(html.lines("Drop two pictures: both maps appear below."))
    shown = gr.HTML(elem_id="fam-pair", js_on_load=_POINTS)
    back = gr.Button("Both maps again", visible=False)
    with gr.Row():
        maps = gr.DownloadButton("Raw maps (maps.npz)", interactive=False)
        manifest = gr.DownloadButton("manifest.json", interactive=False)
    asked, known = gr.State(None), gr.State({})

    no_file = gr.update(value=None, interactive=False)
    blank = "", gr.update(visible=False), no_file, no_file, None

    @_in_lines(blank)
    def explain(
        model, layer, method, query, kind, other, sentence, others, sentences, before, known
    ):
        if before is not None:
            shutil.rmtree(before.folder, ignore_errors=True)
        with_sentence = kind == SENTENCE
        if not query or not (sentence.strip() if with_sentence else other):
            wanted = "a picture and a sentence" if with_sentence else "two pictures"
            return [f"Waiting for {wanted}."], *blank
        opened = app.opened(model)
        picture = opened.read(app.path(query))
        wanted = "" if method == DEFAULT else method
        if with_sentence:
            lines = tuple(line.strip() for line in sentences.splitlines() if line.strip())
            background = opened.background((), lines)
            answer = answers.of_sentence(
                opened, layer, wanted, picture, sentence.strip(), background
            )
            pictures = None
        else:
            pictures = picture, opened.read(app.path(other))
            background = _background(app, opened, others, known)
            answer = answers.of_pictures(opened, layer, wanted, picture, pictures[1:], background)
        folder = Path(tempfile.mkdtemp(prefix="result-", dir=app.folder))
        files = [gr.update(value=str(f), interactive=True) for f in answers.save(answer, folder)]
        now = _Asked(model, layer, pictures, answer, folder)
        return answer.lines, html.pair(answer), gr.update(visible=False), *files, now

    @_in_lines((gr.skip(), gr.skip()))
    def meet(asked, point: gr.EventData):
        if asked is None or asked.pictures is None:
            return [], gr.skip(), gr.skip()
        at = float(point.x), float(point.y)
        side = "query" if point.side == "query" else "reference"
        met = points.met(app.opened(asked.model), asked.layer, asked.pictures, side, at)
        said = html.points(asked.answer.sides[0], side, met)
        return [], said, gr.update(visible=True)

    def again(asked):
        return html.lines(*asked.answer.lines), html.pair(asked.answer), gr.update(visible=False)

    def choose(model, progress=gr.Progress()):  # noqa: B008 (gradio's way to ask for it)
        opened = app.opened(model, progress.tqdm)
        knows = opened.tower is not None
        return (
            gr.update(choices=list(opened.layers), value=opened.layers[0]),
            gr.update(choices=[DEFAULT, *opened.methods], value=DEFAULT),
            gr.update(visible=knows, value=PICTURE),
        )

    def switch(kind):
        words = kind == SENTENCE
        pictures, texts = gr.update(visible=not words), gr.update(visible=words)
        return pictures, texts, pictures, texts

    given = [model, layer, method, query, kind, other, sentence, others, sentences, asked, known]
    shows = [status, shown, back, maps, manifest, asked]
    run = {"fn": explain, "inputs": given, "outputs": shows, "trigger_mode": "always_last"} | _ONE
    settled = query.change, other.change, others.change, layer.input, method.input
    gr.on([*settled, sentence.submit, sentences.blur], **run)
    kind.change(switch, kind, [with_picture, sentence, with_pictures, sentences]).then(**run)
    chosen = model.input(_or_line(choose, 3), model, [status, layer, method, kind], **_ONE)
    chosen.then(**run)
    shown.select(meet, asked, [status, shown, back], trigger_mode="always_last", **_ONE)
    back.click(again, asked, [status, shown, back])


def _search_tab(app: App, gallery: Gallery) -> None:
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

    @_in_lines(("",))
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
        **_ONE,
    )


def _compare_tab(app: App) -> None:
    first = app.opened(app.models[0])
    with gr.Row():
        query = upload("Picture", "compare-query")
        other = upload("Other picture", "compare-other")
        others = upload("Background: other pictures", "compare-background", file_count="multiple")
    with gr.Row():
        model, layer = _network(app, first)
    methods = gr.CheckboxGroup(_choices(first), value=_quick(first), label="Methods")
    curves = gr.Dropdown(
        _choices(first), value=_curves(first), multiselect=True, label="Deletion curves of"
    )
    button = gr.Button("Compare", variant="primary")
    status = gr.HTML(html.lines("Drop two pictures, then compare."))
    drawn, shown = gr.HTML(elem_id="fam-curves"), gr.HTML(elem_id="fam-methods")
    known = gr.State({})

    @_in_lines(("", ""))
    def run(
        model,
        layer,
        query,
        other,
        others,
        methods,
        curves,
        known,
        progress=gr.Progress(),  # noqa: B008
    ):
        if not (query and other):
            return ["Drop two pictures first."], "", ""
        opened = app.opened(model)
        pictures = opened.read(app.path(query)), opened.read(app.path(other))
        background = _background(app, opened, others, known)
        names = progress.tqdm([name for name in opened.methods if name in methods])
        rows = compare.compare(opened, layer, names, curves, pictures, background)
        figure = compare.figure(rows, opened.similarity_name)
        alt = "Deletion curves; their areas stand in the legend"
        return [], html.drawn(figure, alt), html.methods(rows)

    def choose(model, progress=gr.Progress()):  # noqa: B008
        opened = app.opened(model, progress.tqdm)
        return (
            gr.update(choices=list(opened.layers), value=opened.layers[0]),
            gr.update(choices=_choices(opened), value=_quick(opened)),
            gr.update(choices=_choices(opened), value=_curves(opened)),
        )

    model.input(_or_line(choose, 3), model, [status, layer, methods, curves], **_ONE)
    given = [model, layer, query, other, others, methods, curves, known]
    button.click(run, given, [status, drawn, shown], **_ONE)


def _network(app: App, opened: Opened) -> tuple[gr.Dropdown, gr.Dropdown]:
    """The lists of models and of layers."""
    return (
        gr.Dropdown(list(app.models), value=app.models[0], label="Model", min_width=200),
        gr.Dropdown(list(opened.layers), value=opened.layers[0], label="Layer", min_width=200),
    )


def _background(
    app: App, opened: Opened, files: Sequence[str] | None, known: dict[Any, Background]
) -> Background:
    """Embedded once for a session."""
    paths = tuple(app.path(file) for file in files or ())
    key = opened.net.backbone.name, paths
    if key not in known:
        known.clear()
        known[key] = opened.background(paths)
    return known[key]


def _choices(opened: Opened) -> list[tuple[str, str]]:
    return [(name + _MANY * entry(name).copies, name) for name in opened.methods]


def _quick(opened: Opened) -> list[str]:
    return [name for name in opened.methods if not entry(name).copies]


def _curves(opened: Opened) -> list[str]:
    return [name for name in _CURVES if name in opened.methods]


def _in_lines(blank: tuple) -> Callable[[Callable], Callable]:
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


def _or_line(handler: Callable, outputs: int) -> Callable:
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
