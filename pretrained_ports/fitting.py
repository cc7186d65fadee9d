"""The model of a row that a checkpoint fits: its sizes, its projection head."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from pretrained_ports.backbone import embedding_dim
from pretrained_ports.catalog import find_entry
from pretrained_ports.catalog.entry import Entry, abstract
from pretrained_ports.checkpoints.attempts import survey
from pretrained_ports.checkpoints.beside import Layer, linear_layers
from pretrained_ports.checkpoints.dialects import DIALECTS, Dialect
from pretrained_ports.checkpoints.errors import one_line
from pretrained_ports.checkpoints.matching import Found, find, with_head_of
from pretrained_ports.checkpoints.plans import Plan, linear_layer
from pretrained_ports.checkpoints.readers import Checkpoint, CheckpointError
from pretrained_ports.checkpoints.report import listing
from pretrained_ports.models.network import AnyNetwork
from pretrained_ports.models.projection import LAYER, takes_head, with_head
from pretrained_ports.models.state import Shapes, parameters


def tables(name: str, row: Entry, dialect: str) -> list[Dialect]:
    """What "auto" stands for, or the one dialect; ValueError if it is none of the model's."""
    if dialect not in ("auto", *row.dialects):
        raise ValueError(
            f"no dialect {dialect!r} for {name}; there are: auto, {', '.join(row.dialects)}"
        )
    return [DIALECTS[d] for d in (row.dialects if dialect == "auto" else (dialect,))]


def match(
    name: str,
    row: Entry,
    checkpoint: Checkpoint,
    dialect: str = "auto",
    param_dtype: DTypeLike = jnp.float32,
    head: str = "drop",
    entry: str | None = None,
) -> Found:
    """What a checkpoint has for the model of a row, which is not filled yet; arguments of `load`.

    Raises:
        ValueError: Unknown dialect; a head of a model that takes none.
        CheckpointError: The checkpoint does not fit, has no such entry or no head to keep.
    """
    candidates = tables(name, row, dialect)
    model_for = _model_for(row, param_dtype)
    plain = model_for({})
    takes = takes_head(plain)
    if head == "keep" and not (takes or any(map(LAYER.fullmatch, parameters(plain)))):
        raise ValueError(f"head: {name} takes none; its embedding is what the network itself gives")
    found = find(checkpoint, model_for, candidates, name, head, entry)
    layers = {}
    if takes and not found.report.has_head and (beside := linear_layers(checkpoint, found.part)):
        dim = embedding_dim(row, found.model)
        layers = {path: of for path, of in beside.items() if of[f"{path}.weight"].shape[1] == dim}
    if head == "keep":
        return _headed(found, model_for, layers, row, name, plain)
    if takes and (layer := linear_layer(found.part, DIALECTS[found.report.dialect])):
        layers = {layer: {f"{layer}.weight": found.part.tensors[f"{layer}.weight"]}}
    report = found.report
    if len(layers) == 1:
        ((layer, arrays),) = layers.items()
        outputs, inputs = arrays[f"{layer}.weight"].shape
        report = replace(report, dropped=f"{one_line(layer)} ({inputs} -> {outputs})")
    return found._replace(report=report)


def _headed(
    found: Found,
    model_for: Callable[[Shapes], AnyNetwork],
    layers: Mapping[str, Layer],
    row: Entry,
    name: str,
    plain: AnyNetwork,
) -> Found:
    """With the head of the network, or else the one linear layer beside it."""
    source, dialect = found.report.source, found.report.dialect
    if found.report.has_head:
        _check_head(found, row, name, plain)
        return found
    if len(layers) > 1:
        raise CheckpointError(
            f"{source} has several layers that may be a head: {', '.join(map(one_line, layers))}"
        )
    if not layers:
        raise CheckpointError(f"{source} has no projection head to keep (dialect {dialect})")
    return with_head_of(found, model_for, *layers.values())


def _check_head(found: Found, row: Entry, name: str, plain: AnyNetwork) -> None:
    """CheckpointError for a head whose layers do not follow on the embedding and each other."""
    try:
        embedding_dim(row, found.model)
    except (TypeError, ValueError):
        shapes = {
            key: str(list(found.part.tensors[key].shape))
            for key, path in found.report.used.items()
            if LAYER.fullmatch(path)
        }
        raise CheckpointError(
            f"{found.report.source}: its head does not fit embeddings "
            f"[{embedding_dim(row, plain)}] of {name}: {listing(shapes)}"
        ) from None


def fits(checkpoint: Checkpoint, name: str, plan: Plan) -> bool:
    """Whether a checkpoint, as one table reads it, holds a model's weights and nothing else."""
    return survey(checkpoint, _kept_model_for(find_entry(name)), plan).fits


def _model_for(
    entry: Entry, param_dtype: DTypeLike = jnp.float32
) -> Callable[[Shapes], AnyNetwork]:
    """Makes a row's abstract model: once for all shapes that ask for nothing else."""
    unfitted = cache(lambda: abstract(entry, param_dtype))

    def model_for(shapes: Shapes) -> AnyNetwork:
        row = _fitted(entry, shapes)
        return unfitted() if row.build is entry.build else abstract(row, param_dtype)

    return model_for


_kept_model_for = cache(_model_for)  # every row is asked for every part of a file


def _fitted(entry: Entry, shapes: Shapes) -> Entry:
    """The row for what a checkpoint offers: its sizes, and its projection head if it is kept."""
    row = entry.infer(entry, shapes) if entry.infer else entry
    return replace(row, build=with_head(row.build, shapes))


def fitted_row(row: Entry, model: nnx.Module) -> Entry:
    """The row for a model that was made for a checkpoint."""
    return _fitted(row, {path: array.shape for path, array in parameters(model).items()})
