"""What the metrics ask of their arguments, refused in one line where it is not so."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fam_jax._core.axes import map_axes
from fam_jax._core.checks import AnyArray, check_float, check_plain
from fam_jax._core.encoder import as_embedding
from fam_jax._core.similarity import Similarity, as_similarity

IMAGES = "batch *space channels"
MAPS = "batch *space"
PICTURES = "batch height width channels"
PICTURE_MAPS = "batch height width"


def check_case(
    embed: Callable, images: AnyArray, references: AnyArray, maps: AnyArray, similarity: Similarity
) -> tuple[Callable, AnyArray, AnyArray, AnyArray, Similarity]:
    """The arguments, embedding function and similarity as pytrees, if the arrays fit together."""
    check_float("images", images, IMAGES)
    check_float("references", references, "batch dimensions")
    check_float("maps", maps, MAPS)
    check_rank("images", images, maps=maps)
    check_batch("images", images, references=references, maps=maps)
    return as_embedding(embed), images, references, maps, as_similarity(similarity)


def check_batch(name: str, first: AnyArray, **others: AnyArray) -> None:
    """Raise unless all have the first one's batch."""
    for other, x in others.items():
        if x.shape[0] != first.shape[0]:
            raise ValueError(
                f"{other} have shape {x.shape}, {name} {first.shape}: one of {other} for each of "
                f"the {first.shape[0]} {name} is expected"
            )


def check_rank(name: str, first: AnyArray, **maps: AnyArray) -> None:
    """Raise unless the maps have the axes of positions that the first one has."""
    for other, x in maps.items():
        if x.ndim != first.ndim - 1:
            raise ValueError(
                f"{other}: expected an array of maps, with as many axes of positions as {name} "
                f"{first.shape}, got shape {x.shape}"
            )


def check_boxes(name: str, boxes: AnyArray) -> None:
    """Raise unless these are boxes: left, top, right, bottom."""
    check_float(name, boxes, "batch 4")
    if boxes.shape[1] != 4:
        raise ValueError(f"{name}: expected boxes [batch, 4], got shape {boxes.shape}")


def check_booleans(name: str, x: Any, shape: tuple[int, ...], each: str) -> None:
    """Raise unless `x` is a boolean for `each` value of an array of this shape."""
    check_plain(name, x)
    if getattr(x, "dtype", None) != jnp.bool_:
        got = getattr(x, "dtype", type(x).__name__)
        raise TypeError(f"{name}: expected booleans, got {got}")
    if x.shape != shape:
        raise ValueError(f"{name}: expected a boolean for {each}, shape {shape}, got {x.shape}")


def check_between(name: str, value: Any, low: float | int, high: float | int) -> None:
    """Raise unless low < value <= high; a number known at trace time."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low < value <= high:
        raise ValueError(f"{name}: expected a number above {low} and up to {high}, got {value!r}")


def nan_unless_finite(values: jax.Array, *maps: AnyArray) -> jax.Array:
    """The values [b, ...]; NaN for those images whose map is not finite throughout."""
    for m in maps:
        ok = jnp.all(jnp.isfinite(m), axis=map_axes(m))
        values = jnp.where(ok.reshape(-1, *(1,) * (values.ndim - 1)), values, jnp.nan)
    return values
