"""Three slices of a volume through the peak of its map."""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from fam_jax._core.checks import check_unmasked
from fam_jax._core.maps import upsample
from fam_jax.plot.figures import NOTHING, SIGNED, grid_figure
from fam_jax.plot.overlays import DIVERGING, SEQUENTIAL, is_signed, overlay, shows, symmetric

_SIDE = 256  # pixels of a slice, at least about


def volume(
    volume: Float[jax.Array | np.ndarray, "d h w"],
    map: Float[jax.Array | np.ndarray, "dm hm wm"],
    *,
    at: tuple[int, int, int] | None = None,
    names: Sequence[str] = ("depth", "height", "width"),
    title: str = "",
) -> Figure:
    """Three slices of the volume through the map's peak, above the same under the map.

    The map is upsampled to the volume's size; all three overlays share its limits, so that one
    colour is one value. A signed map has 0 in the middle, and its peak is the largest value. Two
    lines in each overlay meet where the other two slices are.

    Args:
        volume: one of one channel, [d, h, w], of any range of values.
        map: a raw map of three axes.
        at: the voxel to cut through instead of the peak.
        names: of the three axes, each the one that a slice lies across.
        title: a line over all.

    Examples:
        >>> import numpy as np
        >>> from fam_jax import plot
        >>> body, heat = np.zeros((8, 16, 16), np.float32), np.zeros((2, 4, 4), np.float32)
        >>> heat[1, 2, 3] = 1.0
        >>> figure = plot.volume(body, heat)
        >>> [ax.get_title() for ax in figure.axes[:3]]
        ['depth 6', 'height 9', 'width 14']
    """
    check_unmasked("volume", volume)
    check_unmasked("map", map)
    body, raw = np.asarray(volume, np.float32), np.asarray(map, np.float32)
    if body.ndim != 3:
        raise ValueError(f"volume: expected one of one channel [d, h, w], got shape {body.shape}")
    if raw.ndim != 3:
        raise ValueError(f"map: expected one map of a volume [d, h, w], got shape {raw.shape}")
    if not np.isfinite(body).all():
        raise ValueError("volume: expected finite values")
    shown, signed = shows(raw), is_signed(raw)
    heat = np.asarray(upsample(raw, body.shape)) if shown else np.zeros_like(body)
    place = _peak(heat) if at is None else tuple(at)
    if len(place) != 3 or not all(0 <= i < n for i, n in zip(place, body.shape, strict=True)):
        sides = " x ".join(str(side) for side in body.shape)
        raise ValueError(f"at: {place} lies outside of a volume of {sides}")
    limits = symmetric([raw]) if signed else (float(heat.min()), float(heat.max()))
    limits = limits if shown else None
    span = np.ptp(body)
    grey = (body - body.min()) / (span if span > 0 else 1)
    plain, overlays = [], []
    for axis, index in enumerate(place):
        slice_, m = (np.take(x, index, axis) for x in (grey, heat))
        plain.append(slice_)
        # Enlarged where voxels are few, so that the lines of the cross are thin beside them.
        times = max(1, _SIDE // max(slice_.shape))
        drawn = overlay(np.kron(slice_, np.ones((times, times), np.float32)), m, limits=limits)
        overlays.append(_crossed(drawn, times, *(place[:axis] + place[axis + 1 :])))
    remark = NOTHING if not shown else SIGNED if signed else ""
    captions = [[f"{name} {i}" for name, i in zip(names, place, strict=True)], [remark] * 3]
    return grid_figure(
        [plain, overlays],
        captions=captions,
        title=title,
        colorbar=True,
        colormap=DIVERGING if signed else SEQUENTIAL,
    )


def _peak(heat: np.ndarray) -> tuple[int, int, int]:
    """The voxel in the middle of where the map is as high as it gets; of a flat one the centre."""
    high = np.argwhere(heat >= heat.max() - 1e-6 * np.ptp(heat))
    middle = high.mean(axis=0)
    d, h, w = high[np.argmin(((high - middle) ** 2).sum(axis=1))]
    return int(d), int(h), int(w)


def _crossed(pixels: np.ndarray, times: int, row: int, column: int) -> np.ndarray:
    """A thin white cross through a voxel of `times` pixels, half seen through."""
    out, wide = pixels.astype(np.float32), max(1, times // 8)
    for axis, index in enumerate((row, column)):
        start = times * index + (times - wide) // 2
        line = (slice(None),) * axis + (slice(start, start + wide),)
        out[line] = 0.6 * out[line] + 0.4 * 255
    return np.round(out).astype(np.uint8)
