"""Two pictures, or a picture and a sentence: both maps, and the counterpart of a point."""

import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from fam_jax._core.extras import needed
from fam_jax.apps.live import answers, html, points
from fam_jax.apps.live.opened import Picture
from fam_jax.apps.live.shared import DEFAULT, ONE, App, background_of, in_lines, network, or_line
from fam_jax.apps.live.upload import upload

with needed("the app needs", "app"):
    import gradio as gr  # pyright: ignore[reportMissingImports]

PICTURE, SENTENCE = "a picture", "a sentence"
# What the script of the page says of a point becomes an event of gradio's.
_POINTS = "element.addEventListener('fam-point', (event) => trigger('select', event.detail));"


class _Asked(NamedTuple):
    """What a session's page shows: a pair that points can be asked of, and its files."""

    model: str
    layer: str
    pictures: tuple[Picture, Picture] | None
    answer: answers.Answer
    folder: Path


def pair_tab(app: App) -> None:
    """The components, and what they do."""
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
        model, layer = network(app, first)
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

    @in_lines(blank)
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
            background = background_of(app, opened, others, known)
            answer = answers.of_pictures(opened, layer, wanted, picture, pictures[1:], background)
        folder = Path(tempfile.mkdtemp(prefix="result-", dir=app.folder))
        files = [gr.update(value=str(f), interactive=True) for f in answers.save(answer, folder)]
        now = _Asked(model, layer, pictures, answer, folder)
        return answer.lines, html.pair(answer), gr.update(visible=False), *files, now

    @in_lines((gr.skip(), gr.skip()))
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
    run = {"fn": explain, "inputs": given, "outputs": shows, "trigger_mode": "always_last"} | ONE
    settled = query.change, other.change, others.change, layer.input, method.input
    gr.on([*settled, sentence.submit, sentences.blur], **run)
    kind.change(switch, kind, [with_picture, sentence, with_pictures, sentences]).then(**run)
    chosen = model.input(or_line(choose, 3), model, [status, layer, method, kind], **ONE)
    chosen.then(**run)
    shown.select(meet, asked, [status, shown, back], trigger_mode="always_last", **ONE)
    back.click(again, asked, [status, shown, back])
