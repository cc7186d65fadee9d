"""The options of the commands: each has one name, one meaning and one line of help."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from fam_jax import methods
from fam_jax.apps import choices, network


def _option(*names: str, help: str, among: Callable[[], Iterable[str]] | None = None) -> Any:
    """An option; a shell completes it with the names that `among` gives."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in among() if name.startswith(incomplete)] if among else []

    return typer.Option(*names, help=help, autocompletion=complete if among else None)


def _models() -> list[str]:
    import pretrained_ports

    return pretrained_ports.names()


_model = _option("--model", help="A backbone; fam-jax models lists them.", among=_models)
Model = Annotated[str, _model]
ModelOrNone = Annotated[str | None, _model]
Weights = Annotated[str | None, _option("--weights", help="A checkpoint file for it, or: random.")]
Head = Annotated[
    str,
    _option(
        "--head",
        help="A projection head in the checkpoint: drop or keep.",
        among=lambda: network.HEADS,
    ),
]
Layer = Annotated[
    str | None,
    _option("--layer", help="Where maps are taken, if not at the backbone's own layer."),
]
Method = Annotated[
    str,
    _option(
        "--method",
        help=f"What makes the maps: {', '.join(methods.names())}.",
        among=methods.names,
    ),
]
Similarity = Annotated[
    str,
    _option(
        "--similarity",
        help="What is explained: cosine, dot or euclidean.",
        among=lambda: choices.SIMILARITIES,
    ),
]
Background = Annotated[
    list[str] | None,
    _option(
        "--background",
        help="Other pictures (a file or a folder; repeat for more): explain what makes the pair "
        "more alike than these. FAM's weights are then signed, without min-max.",
    ),
]
ImageSize = Annotated[
    int | None,
    _option("--image-size", help="Side in pixels of what the network sees, if not its own."),
]
MapSize = Annotated[
    int | None,
    _option("--map-size", help="Side of the maps that are kept; the layer's grid if not given."),
]
Output = Annotated[
    str, _option("--output", "-o", help="The folder to write; a store may be gs://...")
]
Overwrite = Annotated[bool, _option("--overwrite", help="Replace what an earlier run wrote there.")]
Quiet = Annotated[bool, _option("--quiet", help="No progress, no text but errors.")]
Json = Annotated[bool, _option("--json", help="One JSON object in place of the text.")]

# Of the commands for large jobs.
Batch = Annotated[int, _option("--batch", help="Of a device at a time, and of a file.")]
Compute = Annotated[
    str,
    _option("--compute", help="float32 or bfloat16.", among=lambda: network.COMPUTE),
]
Workers = Annotated[int, _option("--workers", help="Processes that read pictures; 0: threads.")]
Distributed = Annotated[bool, _option("--distributed", help="Run the same command on every host.")]
Coordinator = Annotated[
    str | None,
    _option("--coordinator", help="HOST:PORT of the first, where jax does not find it."),
]
Processes = Annotated[int | None, _option("--processes", help="How many there are.")]
Process = Annotated[int | None, _option("--process", help="Which one this is, from 0.")]
