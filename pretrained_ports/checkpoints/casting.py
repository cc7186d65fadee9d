"""The type of weights: cast to the one asked for, finite before and after."""

from collections.abc import Mapping

import numpy as np
from jax.typing import DTypeLike

from pretrained_ports.checkpoints.errors import CheckpointError
from pretrained_ports.checkpoints.report import listing


def cast(
    arrays: Mapping[str, np.ndarray], param_dtype: DTypeLike, source: str
) -> dict[str, np.ndarray]:
    """Arrays of one type.

    Args:
        arrays: Module path -> array.
        param_dtype: The type.
        source: Where the arrays come from, for the error.

    Raises:
        CheckpointError: Weights are not finite, or the type is too narrow for them.
    """
    check_finite(arrays, source)
    with np.errstate(over="ignore"):
        arrays = {key: array.astype(param_dtype) for key, array in arrays.items()}
    check_finite(arrays, source)  # again: a narrower type may not hold what the file holds
    return arrays


def check_finite(arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Refuse weights that are not finite."""
    broken = {
        key: f"{array.dtype}{list(array.shape)}"
        for key, array in arrays.items()
        if not np.isfinite(array).all()
    }
    if broken:
        raise CheckpointError(f"{source}: weights that are not finite: {listing(broken)}")
