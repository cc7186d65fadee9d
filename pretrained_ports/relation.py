"""The relation network's learned similarity with trained weights."""

from pathlib import Path

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from pretrained_ports.checkpoints.dialects import DIALECTS
from pretrained_ports.checkpoints.matching import convert
from pretrained_ports.checkpoints.readers import read
from pretrained_ports.models.relation_net import Relation


def load_relation(
    weights: str | Path, shots: int = 1, param_dtype: DTypeLike = jnp.float32
) -> Relation:
    """The learned similarity with trained weights, in evaluation mode.

    Args:
        weights: A checkpoint of the relation head (`miniimagenet_relation_network_...`).
        shots: As for `Relation`: 5 for a file of 5-shot training.
        param_dtype: Type of the parameters, and of the computation.

    Raises:
        CheckpointError: The file cannot be read, or does not fit.
    """
    model = nnx.eval_shape(lambda: Relation(shots, rngs=nnx.Rngs(0), param_dtype=param_dtype))
    dialects = [DIALECTS["relation-network"], DIALECTS["native"]]
    model, _ = convert(read(weights), lambda shapes: model, dialects, param_dtype, "the relation")
    model.eval()
    return model
