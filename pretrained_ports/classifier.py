"""The classifier that a checkpoint was trained with, which `load` leaves out."""

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pretrained_ports.backbone import bundle
from pretrained_ports.catalog import find_entry
from pretrained_ports.checkpoints.casting import cast
from pretrained_ports.checkpoints.dialects.rules import CLASSIFIER
from pretrained_ports.checkpoints.readers import Checkpoint, CheckpointError, read
from pretrained_ports.fitting import fitted_row, match
from pretrained_ports.models.state import check_dtype
from pretrained_ports.weights.default import default_weights


class Classifier(NamedTuple):
    """A linear layer on embeddings: logits = embeddings @ kernel + bias.

    Attributes:
        kernel: One column a class, [d k].
        bias: [k]; zeros if the layer has none.

    Examples:
        >>> kernel, bias = Classifier(jnp.eye(2, 3), jnp.array([0.0, 1.0, 5.0]))
        >>> (jnp.array([[3.0, 4.0]]) @ kernel + bias[None]).tolist()
        [[3.0, 5.0, 5.0]]
    """

    kernel: Float[Array, "d k"]
    bias: Float[Array, " k"]

    def __repr__(self) -> str:
        return f"Classifier({' x '.join(map(str, self.kernel.shape))})"


def load_classifier(
    name: str,
    weights: str | Path | Checkpoint | None = None,
    dialect: str = "auto",
    param_dtype: DTypeLike = jnp.float32,
    entry: str | None = None,
) -> Classifier:
    """The fully-connected layer behind a backbone: what `load` drops from the same file.

    Args:
        name: One of `names()`.
        weights: As for `load`.
        dialect: As for `load`; its table says which keys are the classifier's.
        param_dtype: Type of the parameters.
        entry: As for `load`.

    Returns:
        `Classifier`: kernel [d k], bias [k]; embeddings are those of `load(name, weights).model`.

    Raises:
        ValueError: Unknown name or dialect, float64 without 64-bit mode, or no default weights.
        CheckpointError: The file cannot be had or read, does not fit the model, or holds no
            classifier that is one linear layer on its embeddings.
    """
    check_dtype(param_dtype)
    row = find_entry(name)
    if weights is None:
        weights, _ = default_weights(name, row)
    checkpoint = weights if isinstance(weights, Checkpoint) else read(weights)
    # The whole model is looked for: which table its part of the file follows is known then.
    found = match(name, row, checkpoint, dialect, param_dtype, entry=entry)
    tensors, report = found.part.tensors, found.report
    dim = bundle(name, fitted_row(row, found.model), found.model, "").embedding_dim
    dropped = [key for key in tensors if report.ignored.get(key) == CLASSIFIER]
    source = f"{checkpoint.path} (dialect {report.dialect})"
    if not dropped:
        raise CheckpointError(f"{source} holds no classifier beside the weights of {name}")
    arrays = {key.rpartition(".")[2]: tensors[key] for key in dropped}
    kernel = arrays.get("weight", np.zeros(()))
    bias = arrays.get("bias", np.zeros(kernel.shape[:1]))
    if (
        len(arrays) != len(dropped)
        or not set(arrays) <= {"weight", "bias"}
        or kernel.shape != (*bias.shape, dim)
    ):
        shapes = ", ".join(f"{key} {list(tensors[key].shape)}" for key in dropped)
        raise CheckpointError(
            f"{source}: the classifier is not one linear layer on embeddings [{dim}]: {shapes}"
        )
    # Cast to arrays of their own: what was read may be a view of the file.
    arrays = cast({"kernel": kernel.T, "bias": bias}, param_dtype, f"{source}: the classifier")
    return Classifier(jnp.asarray(arrays["kernel"]), jnp.asarray(arrays["bias"]))
