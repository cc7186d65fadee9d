"""The models by name: architecture, hub file, preprocessing, default layer."""

import difflib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from pretrained_ports.catalog import ENTRIES
from pretrained_ports.checkpoint import Checkpoint, CheckpointError, read
from pretrained_ports.convert import Shapes, convert, parameters, survey
from pretrained_ports.dialects import DIALECTS
from pretrained_ports.entry import Entry, Hub, Tokens
from pretrained_ports.network import AnyNetwork, Network
from pretrained_ports.preprocess import Preprocess
from pretrained_ports.projection import LAYER, with_head
from pretrained_ports.random_weights import randomise
from pretrained_ports.report import Report


@dataclass(frozen=True)
class Backbone:
    """A network with all that is needed to use it.

    Attributes:
        name: Its name in the zoo.
        model: images [b H W c] -> embeddings [b d], a flax.nnx module in evaluation mode.
        layer: Path of the layer to explain by default.
        tokens: How a transformer's tokens lie on the image; None for convolutional networks.
        preprocess: One picture -> float32 [H W c].
        embedding_dim: d, for pictures of `preprocess.size`.
        source: Where the weights come from, in one line.
        report: What the conversion did with every tensor; None for random weights.
    """

    name: str
    model: AnyNetwork
    layer: str
    tokens: Tokens | None
    preprocess: Preprocess
    embedding_dim: int
    source: str
    report: Report | None = None


def names() -> list[str]:
    """All model names.

    Example:
        >>> "resnet50" in names()
        True
    """
    return list(ENTRIES)


def create(name: str, seed: int = 0, param_dtype: DTypeLike = jnp.float32) -> Backbone:
    """A backbone with random weights.

    Args:
        name: One of `names()`.
        seed: The same seed gives the same weights.
        param_dtype: Type of the parameters, and of the computation.

    Raises:
        ValueError: Unknown name, or float64 without 64-bit mode.

    Example:
        >>> create("cifar-resnet20").embedding_dim
        64
    """
    entry = find_entry(name)
    check_dtype(param_dtype)
    model = abstract(entry, param_dtype)
    randomise(model, seed, param_dtype)
    return _bundle(name, entry, model, f"random weights, seed {seed}")


def load(
    name: str,
    weights: str | Path | Checkpoint | None = None,
    dialect: str = "auto",
    param_dtype: DTypeLike = jnp.float32,
    head: Literal["drop", "keep"] = "drop",
) -> Backbone:
    """A backbone with trained weights.

    Args:
        name: One of `names()`.
        weights: A checkpoint file, or what `read` gave; None takes the default weights, from this
            package or the hub.
        dialect: Names in the checkpoint: a key of `pretrained_ports.dialects.DIALECTS`, or "auto".
        param_dtype: Type of the parameters, and of the computation.
        head: Self-supervised checkpoints may hold a projection head: "drop" compares what enters
            it, "keep" what leaves it. The similarity that is explained is another one.

    Raises:
        ValueError: Unknown name or dialect, float64 without 64-bit mode, or no default weights.
        CheckpointError: The file cannot be had or read, does not fit the model, or has no head to
            keep.

    Example:
        >>> import tempfile
        >>> from pretrained_ports.convert import write
        >>> file = Path(tempfile.mkdtemp()) / "mine.safetensors"
        >>> _ = write(file, create("conv4").model, {"architecture": "conv4"})
        >>> load("conv4", weights=file).report.dialect
        'native'
    """
    entry = find_entry(name)
    check_dtype(param_dtype)
    dialects = entry.dialects if dialect == "auto" else (dialect,)
    if unknown := [d for d in dialects if d not in entry.dialects]:
        raise ValueError(
            f"no dialect {unknown[0]!r} for {name}; there are: auto, {', '.join(entry.dialects)}"
        )
    source = ""
    if weights is None:
        weights, source = default_weights(name, entry)
    checkpoint = weights if isinstance(weights, Checkpoint) else read(weights)
    source = source or str(checkpoint.path)

    model, report = convert(
        checkpoint,
        lambda shapes: abstract(_fitted(entry, shapes), param_dtype),
        [DIALECTS[d] for d in dialects],
        param_dtype,
        name,
        head,
    )
    if head == "keep" and not any(LAYER.fullmatch(path) for path in report.used.values()):
        raise CheckpointError(
            f"{checkpoint.path} has no projection head to keep (dialect {report.dialect})"
        )
    shapes = {path: array.shape for path, array in parameters(model).items()}
    return _bundle(name, _fitted(entry, shapes), model, source, report)


def fits(checkpoint: Checkpoint, name: str, dialect: str) -> bool:
    """Whether a checkpoint holds the weights of a model, by one dialect."""
    entry = find_entry(name)
    table = DIALECTS[dialect]
    return survey(checkpoint, lambda shapes: abstract(_fitted(entry, shapes)), table).fits


def _fitted(entry: Entry, shapes: Shapes) -> Entry:
    """The row for what a checkpoint offers: its sizes, and its projection head if it is kept."""
    row = entry.infer(entry, shapes) if entry.infer else entry
    return replace(row, build=with_head(row.build, shapes))


class _OneKey(nnx.Rngs):
    """One key for every parameter: counting keys is most of the time that a deep model takes."""

    def params(self) -> jax.Array:
        return jax.random.key(0)


def abstract(entry: Entry, param_dtype: DTypeLike = jnp.float32) -> Network:
    """The model of a row with shapes in place of arrays."""
    return nnx.eval_shape(lambda: entry.build(rngs=_OneKey(), param_dtype=param_dtype))


def _bundle(
    name: str, entry: Entry, model: Network, source: str, report: Report | None = None
) -> Backbone:
    model.eval()
    picture = jax.ShapeDtypeStruct(
        (1, *entry.preprocess.size, entry.preprocess.channels), "float32"
    )
    dim = nnx.eval_shape(lambda model, images: model(images), model, picture).shape[-1]
    return Backbone(name, model, entry.layer, entry.tokens, entry.preprocess, dim, source, report)


def find_entry(name: str) -> Entry:
    """The row of a model; ValueError with the nearest right names."""
    if name not in ENTRIES:
        near = difflib.get_close_matches(name, ENTRIES, n=3, cutoff=0.5)
        nearest = f"the nearest names are: {', '.join(near)}" if near else "none is near"
        raise ValueError(f"no model {name!r}; {nearest} (`fam-jax models` lists all)")
    return ENTRIES[name]


def check_dtype(param_dtype: DTypeLike) -> None:
    """Refuse float64 where jax would quietly make float32 of it."""
    if jnp.dtype(param_dtype) == jnp.float64 and jnp.result_type(float) != jnp.float64:
        raise ValueError('param_dtype float64 needs jax.config.update("jax_enable_x64", True)')


def default_weights(name: str, entry: Entry) -> tuple[Path, str]:
    """The file with a model's default weights, and where it comes from."""
    if entry.embedded:
        return Path(__file__).parent / "weights" / entry.embedded, f"embedded {entry.embedded}"
    if entry.hub is None:
        raise ValueError(
            f"{name} has no default weights: pass weights=FILE (--weights FILE), or use "
            f"create({name!r}) (--weights random) for random ones"
            f"{entry.release and '; the authors give theirs at '}{entry.release}"
        )
    path = fetch(entry.hub, f"the weights of {name}", "weights=FILE (--weights FILE)")
    return path, f"{entry.hub.repository} {entry.hub.file}"


def fetch(hub: Hub, what: str, option: str) -> Path:
    """A file of the hub, from the cache if it is there.

    Raises:
        CheckpointError: It cannot be had; says which file to give with which option.
    """
    import huggingface_hub

    repository, file = hub
    cached = huggingface_hub.try_to_load_from_cache(repository, file)
    if isinstance(cached, str):  # without asking the hub, which takes long where there is none
        return Path(cached)
    download = huggingface_hub.hf_hub_download  # imports what sets the level of its logger
    # Its warnings about every retry would bury the one line below.
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return Path(download(repository, file))
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"cannot fetch {what} ({type(error).__name__}): download {file} of the Hugging Face "
            f"repository {repository} elsewhere and pass {option}"
        ) from error
    finally:
        logger.setLevel(level)
