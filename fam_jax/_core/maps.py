"""What happens to a raw map afterwards: scaling and upsampling, as separate, visible steps."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.checks import AnyArray, check_choice, check_plain, wide


def minmax(x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """(x - min) / (max - min) over the last axis; all ones where x is constant.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax._core.maps import minmax
        >>> minmax(jnp.array([[0.0, 1.0, 4.0], [7.0, 7.0, 7.0]])).tolist()
        [[0.0, 0.25, 1.0], [1.0, 1.0, 1.0]]
    """
    check_plain("x", x)
    low = jnp.min(x, axis=-1, keepdims=True)
    span = jnp.max(x, axis=-1, keepdims=True) - low
    # span == 0 rather than span > 0: a NaN must stay one, to be caught where maps are made.
    return jnp.where(span == 0, 1, (x - low) / jnp.where(span == 0, 1, span))


def rescale(
    maps: Float[AnyArray, "..."], *, axes: Sequence[int] | None = None, author_compat: bool = False
) -> Float[Array, "..."]:
    """Every map to [0, 1] on its own: (M - min) / (max - min); zeros for a constant map.

    Args:
        maps: raw maps; of pictures, [..., h, w] with at least one axis before them.
        axes: a map's own axes, where they are others than the last two of three or more: (0, 1)
            for one map [h, w], (1,) for maps of signals [b, t], (1, 2, 3) for volumes.
        author_compat: the display of the FAM author's release instead: (M - min) / (max + 1e-7),
            max being that of M - min, cut to 256 grey levels. Use it before `upsample`, as there.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> fam_jax.rescale(jnp.array([[[-1.0, 0.0], [1.0, 3.0]]])).tolist()
        [[[0.0, 0.25], [0.5, 1.0]]]
        >>> fam_jax.rescale(jnp.array([[-1.0, 1.0], [3.0, 4.0]]), axes=(1,)).tolist()
        [[0.0, 1.0], [0.0, 1.0]]

    Source: `author_compat`: github.com/ly9802/DynamicAccumulatedAttentionMap.
    """
    check_plain("maps", maps)
    return _rescale(maps, _axes_of_a_map(maps, axes), author_compat)


@partial(jax.jit, static_argnums=(1, 2))
def _rescale(maps: Array, own: tuple[int, ...], author_compat: bool) -> Array:
    (maps,) = wide(maps)
    shifted = maps - jnp.min(maps, axis=own, keepdims=True)
    highest = jnp.max(shifted, axis=own, keepdims=True)
    if author_compat:
        return jnp.floor(255 * (shifted / (highest + 1e-7))) / 255
    # Constant up to rounding is constant: `upsample` of a constant map must not become noise.
    rounding = 8 * jnp.finfo(maps.dtype).eps * jnp.max(jnp.abs(maps), axis=own, keepdims=True)
    flat = highest <= rounding
    return jnp.where(flat, 0, shifted / jnp.where(flat, 1, highest))


def upsample(maps: Float[AnyArray, "..."], size: tuple[int, ...]) -> Float[Array, "..."]:
    """Bilinear interpolation to `size` pixels, half-pixel centres, edges held, no antialiasing.

    Maps [..., h, w] become [..., H, W] for (H, W); the last axis alone is a map's for (T,), the
    last three for (D, H, W), and so on.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> fam_jax.upsample(jnp.array([[0.0, 1.0]]), (1, 4)).tolist()
        [[0.0, 0.25, 0.75, 1.0]]
        >>> fam_jax.upsample(jnp.array([[0.0, 1.0], [4.0, 8.0]]), (4,)).tolist()
        [[0.0, 0.25, 0.75, 1.0], [4.0, 5.0, 7.0, 8.0]]
    """
    check_size(size)
    _check_maps(maps, len(size))
    (maps,) = wide(maps)
    shape = (*maps.shape[: -len(size)], *map(int, size))
    return jax.image.resize(maps, shape, method="bilinear", antialias=False)


_FUSIONS = {"mean": jnp.mean, "max": jnp.max, "product": jnp.prod}


def fuse(
    maps: Sequence[Float[AnyArray, "..."]],
    how: str = "mean",
    size: tuple[int, ...] | None = None,
) -> Float[Array, "..."]:
    """Maps of the same images from several layers as one: upsampled, rescaled, put together.

        F = mean, max or product over layers l of rescale(upsample(M_l))

    A constant map counts as zeros.

    Args:
        maps: raw maps of every layer, [..., h_l, w_l], with the same leading axes; with as many
            axes of their own as `size` has.
        how: "mean", "max" (what any layer sees) or "product" (what all of them see).
        size: (H, W) of the result; by default the largest height and width among the maps. Of
            signals (T,), of volumes (D, H, W): there it must be given.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> def embed(images):
        ...     x = fam_jax.tap(jnp.tanh(images), "fine")
        ...     x = x.reshape(-1, 2, 2, 2, 2, 3).mean((2, 4))
        ...     return fam_jax.tap(x, "coarse").mean((1, 2))
        >>> encode = fam_jax.capture(embed, at=("fine", "coarse"))
        >>> images, references = jnp.ones((5, 4, 4, 3)), jnp.ones((5, 3))
        >>> layers = encode(images)
        >>> fam_jax.fuse([fam_jax.decomposition()(enc, references) for enc in layers]).shape
        (5, 4, 4)
    """
    check_choice("how", how, _FUSIONS)
    maps = list(maps)
    if not maps:
        raise ValueError("maps: expected the maps of at least one layer, got none")
    if size is not None:
        check_size(size)
    own = tuple(range(-len(size or (0, 0)), 0))
    for layer in maps:
        _check_maps(layer, len(own))
    if len({layer.shape[: own[0]] for layer in maps}) > 1:
        shapes = ", ".join(str(layer.shape) for layer in maps)
        raise ValueError(f"maps: expected maps of the same images, got shapes {shapes}")
    if size is None:
        size = tuple(max(layer.shape[axis] for layer in maps) for axis in own)
    layers = wide(*(rescale(upsample(layer, size), axes=own) for layer in maps))
    return _FUSIONS[how](jnp.stack(layers), axis=0)


def check_size(size: tuple[int, ...]) -> None:
    """Raise unless `size` is a height and a width, or other numbers of positions."""
    if not len(size) or any(int(side) != side or side < 1 for side in size):
        raise ValueError(
            f"size: expected positive integers, (height, width) of pictures, got {size!r}"
        )


def _check_maps(maps: AnyArray, rank: int) -> None:
    check_plain("maps", maps)
    if maps.ndim < rank:
        axes = "height, width" if rank == 2 else f"{rank} axes of positions"
        raise ValueError(f"maps: expected [..., {axes}], got shape {maps.shape}")


def _axes_of_a_map(maps: AnyArray, axes: Sequence[int] | None) -> tuple[int, ...]:
    if axes is None:
        if maps.ndim < 3:
            raise ValueError(
                f"maps: expected [..., height, width] with an axis before them, got shape "
                f"{maps.shape}; say which axes are a map's: axes=(0, 1) for one map [h, w], "
                "axes=(1,) for signals [b, t]"
            )
        return -2, -1
    there = {axis % maps.ndim for axis in axes if -maps.ndim <= axis < maps.ndim}
    if not axes or len(there) < len(axes):
        raise ValueError(f"axes: expected different axes of maps of shape {maps.shape}, got {axes}")
    return tuple(axes)
