"""The options of the commands: each has one name, one meaning, one line of help and one check."""

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

import fam_jax
from fam_jax import methods
from fam_jax._core.checks import check_choice, check_count
from fam_jax._core.gates import GATES
from fam_jax.apps.network import COMPUTE, HEADS
from fam_jax.apps.views import FITS, JOB_FITS
from fam_jax.io.pictures import Reader
from fam_jax.methods.registry import entry

_MOST = {"image_size": 8192, "map_size": 4096, "workers": 256}
SIMILARITIES = {"cosine": fam_jax.cosine, "dot": fam_jax.dot, "euclidean": fam_jax.euclidean}


def _option(names: str, help: str, among: Iterable | Callable[[], Iterable] = ()) -> Any:
    """An option of one name or more; a shell completes it with what it may be `among`."""

    def complete(incomplete: str) -> list[str]:
        choices = among() if callable(among) else among
        return [name for name in choices if name.startswith(incomplete)]

    return typer.Option(*names.split(), help=help, autocompletion=complete if among else None)


_model = _option(
    "--model",
    "A backbone; fam-jax models lists them. If not given: the one that the checkpoint fits, else "
    "efficientnet-lite0 where its weights are installed, else tiny.",
    lambda: import_module("pretrained_ports").names(),
)
Model = Annotated[str | None, _model]
Weights = Annotated[str | None, _option("--weights", "A checkpoint file for it, or: random.")]
Head = Annotated[
    str, _option("--head", "A projection head in the checkpoint: drop or keep.", HEADS)
]
_entry = "The part of the checkpoint to take where several fit: state_dict_ema, student, ..."
Entry = Annotated[str | None, _option("--entry", _entry)]
Grid = Annotated[
    tuple[int, int] | None,
    typer.Option(
        "--grid",
        metavar="ROWS COLUMNS",
        help="Of the patches that a vision transformer's positions were trained on, if the "
        "checkpoint does not say and it is no square.",
    ),
]
Layer = Annotated[
    str | None, _option("--layer", "Where maps are taken, if not at the backbone's own layer.")
]
Gates = Annotated[
    str | None,
    _option(
        "--gates",
        "What attention, norms and gated units multiply by is held constant in the backward pass "
        "(frozen) or not (free), if not as the backbone has it.",
        GATES,
    ),
]
_methods = (
    f"What makes the maps: {', '.join(methods.names())}. If not given: contrastive where there "
    "is a background, else fam; for a transformer le-grad-contrastive, else le-grad."
)
Method = Annotated[str | None, _option("--method", _methods, methods.names)]
Similarity = Annotated[
    str, _option("--similarity", "What is explained: cosine, dot or euclidean.", SIMILARITIES)
]
Background = Annotated[
    list[str] | None,
    _option(
        "--background",
        "Other pictures (a file or a folder; repeat for more): explain what makes the pair "
        "more alike than these. The weights of fam are then signed, without min-max. Of retrieve "
        "it is the index, if not given, for methods that need one.",
    ),
]
ImageSize = Annotated[
    int | None, _option("--image-size", "Side in pixels of what the network sees, if not its own.")
]
_fit = (
    "What is seen of a picture: crop (its middle), pad (all of it, with a margin to the network's "
    "shape) or, for explain and app, tile (of windows that cover it the one that is most like one "
    "of the other's; the score is theirs); if not given, the backbone's own, in a search the "
    "index's."
)
Fit = Annotated[str | None, _option("--fit", _fit, FITS)]
Window = Annotated[
    tuple[float, float] | None,
    typer.Option(
        "--window",
        metavar="LOW HIGH",
        help="The values that are black and white in grey pictures of more than 8 bits, if not "
        "those of the file's type.",
    ),
]
Page = Annotated[
    int | None, _option("--page", "Which one, from 1, of files with several pages or frames.")
]
Tokenizer = Annotated[
    Path | None, _option("--tokenizer", "CLIP's tokenizer.json, if it is not to be downloaded.")
]
INDEX = _option("--index", "From fam-jax index.")  # needed or not, by the command
MapSize = Annotated[
    int | None,
    _option("--map-size", "Side of the maps that are kept; the layer's grid if not given."),
]
Output = Annotated[str, _option("--output -o", "The folder to write; a store may be gs://...")]
Partial = Annotated[
    bool, _option("--partial", "Take what is there of a store, or of an index, that is unfinished.")
]
Overwrite = Annotated[bool, _option("--overwrite", "Replace what an earlier run wrote there.")]
Quiet = Annotated[bool, _option("--quiet", "No progress, no text but errors.")]
Json = Annotated[bool, _option("--json", "One JSON object in place of the text.")]

# Of the commands for large jobs.
Batch = Annotated[int, _option("--batch", "Of a device at a time, and of a file.")]
Compute = Annotated[str, _option("--compute", "float32 or bfloat16.", COMPUTE)]
Workers = Annotated[int, _option("--workers", "Processes that read pictures; 0: threads.")]
_retry = (
    "Compute rows without a result again where the picture that failed can be read now, or leave "
    "them."
)
Retry = Annotated[bool, typer.Option("--retry/--no-retry", help=_retry)]
Distributed = Annotated[bool, _option("--distributed", "Run the same command on every host.")]
Coordinator = Annotated[
    str | None, _option("--coordinator", "HOST:PORT of the first, where jax does not find it.")
]
Processes = Annotated[int | None, _option("--processes", "How many there are.")]
Process = Annotated[int | None, _option("--process", "Which one this is, from 0.")]


def check(
    method: str | None, similarity: str, *, background: bool, option: str = "--background"
) -> None:
    """Raise ValueError for an unknown name, or for a method that lacks the background it needs."""
    check_choice("--similarity", similarity, SIMILARITIES)
    if method is None:
        return
    check_choice("--method", method, methods.names())
    if entry(method).background == "needed" and not background:
        raise ValueError(
            f"--method {method} shows what makes the pair more alike than others: give them with "
            f"{option}"
        )


def check_fit(fit: str | None, *, job: bool = False) -> None:
    """Raise ValueError for what is no --fit, or none of a job."""
    if job and fit == "tile":
        raise ValueError(
            "--fit tile takes other windows of a picture for every other one; a job looks at each "
            "in one way: crop or pad"
        )
    if fit is not None:
        check_choice("--fit", fit, JOB_FITS if job else FITS)


def reader(window: tuple[float, float] | None, page: int | None) -> Reader:
    """How pictures are read; ValueError for a window or a page that is none."""
    check_counts(page=page)
    try:
        return Reader(window, page)
    except ValueError as error:
        raise ValueError(f"--{error}") from None


def check_counts(**counts: int | None) -> None:
    """Raise ValueError for an option that is given and no positive integer, or beyond all use."""
    for name, count in counts.items():
        option = f"--{name.replace('_', '-')}"
        if name == "workers" and count == 0:  # threads
            continue
        if count is not None:
            check_count(option, count)
            if count > (most := _MOST.get(name, count)):
                raise ValueError(f"{option}: expected at most {most:,}, got {count:,}")
