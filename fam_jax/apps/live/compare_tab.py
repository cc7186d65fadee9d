"""One pair and many methods, with the deletion curves of some."""

from fam_jax._core.extras import needed
from fam_jax.apps.live import compare, html
from fam_jax.apps.live.opened import Opened
from fam_jax.apps.live.shared import ONE, App, background_of, in_lines, network, or_line
from fam_jax.apps.live.upload import upload
from fam_jax.methods.registry import entry

with needed("the app needs", "app"):
    import gradio as gr  # pyright: ignore[reportMissingImports]

_CURVES = ("fam", "decomposition", "contrastive", "le-grad", "random")  # where nobody chose
_MANY = " (many passes)"


def compare_tab(app: App) -> None:
    """The components, and what they do."""
    first = app.opened(app.models[0])
    with gr.Row():
        query = upload("Picture", "compare-query")
        other = upload("Other picture", "compare-other")
        others = upload("Background: other pictures", "compare-background", file_count="multiple")
    with gr.Row():
        model, layer = network(app, first)
    methods = gr.CheckboxGroup(_choices(first), value=_quick(first), label="Methods")
    curves = gr.Dropdown(
        _choices(first), value=_curves(first), multiselect=True, label="Deletion curves of"
    )
    button = gr.Button("Compare", variant="primary")
    status = gr.HTML(html.lines("Drop two pictures, then compare."))
    drawn, shown = gr.HTML(elem_id="fam-curves"), gr.HTML(elem_id="fam-methods")
    known = gr.State({})

    @in_lines(("", ""))
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
        background = background_of(app, opened, others, known)
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

    model.input(or_line(choose, 3), model, [status, layer, methods, curves], **ONE)
    given = [model, layer, query, other, others, methods, curves, known]
    button.click(run, given, [status, drawn, shown], **ONE)


def _choices(opened: Opened) -> list[tuple[str, str]]:
    return [(name + _MANY * entry(name).copies, name) for name in opened.methods]


def _quick(opened: Opened) -> list[str]:
    return [name for name in opened.methods if not entry(name).copies]


def _curves(opened: Opened) -> list[str]:
    return [name for name in _CURVES if name in opened.methods]
