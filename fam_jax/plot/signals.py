"""A signal drawn as lines that its map colours."""

from collections.abc import Sequence

import jax
import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from fam_jax._core.checks import check_unmasked
from fam_jax._core.maps import upsample
from fam_jax.plot.figures import NOTHING, SIGNED, TITLE
from fam_jax.plot.lettering import lettered
from fam_jax.plot.overlays import DIVERGING, SEQUENTIAL, is_signed, scaled, shows, symmetric

_WIDTH, _ROW = 9.0, 1.1  # inches
_LEAST = 0.6  # inches of a row, of many


def signal(
    signal: Float[jax.Array | np.ndarray, "t *c"],
    map: Float[jax.Array | np.ndarray, " n"],
    *,
    rate: float | int | None = None,
    names: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """The signal as one line for each of its channels, coloured by the map.

    The map is upsampled to the signal's length and brought to [0, 1]; a signed one has 0 in the
    middle, red above it, blue below. Where it is constant, or not finite, the lines are grey.

    Args:
        signal: [t], or [t, c]; each channel has its own scale.
        map: a raw map [n].
        rate: samples in a second, for an axis of seconds; samples are counted if not given.
        names: of the channels.
        title: a line over all.

    Examples:
        >>> import numpy as np
        >>> from fam_jax import plot
        >>> wave = np.sin(np.arange(64, dtype=np.float32) / 4)
        >>> figure = plot.signal(wave, np.arange(8, dtype=np.float32), rate=32)
        >>> figure.axes[-2].get_xlabel()
        'seconds'
    """
    check_unmasked("signal", signal)
    check_unmasked("map", map)
    lines, raw = np.asarray(signal, np.float32), np.asarray(map, np.float32)
    lines = lines[:, None] if lines.ndim == 1 else lines
    if lines.ndim != 2 or len(lines) < 2:
        raise ValueError(f"signal: expected one [t] or [t, c], got shape {np.shape(signal)}")
    if raw.ndim != 1:
        raise ValueError(f"map: expected one map [n] of a signal, got shape {raw.shape}")
    if names and len(names) != lines.shape[1]:
        raise ValueError(
            f"names: expected {lines.shape[1]}, one for each channel, got {len(names)}"
        )
    if not np.isfinite(lines).all():
        raise ValueError("signal: expected finite values")
    signed, shown = is_signed(raw), shows(raw)
    limits = symmetric([raw]) if signed else None
    heat = np.asarray(upsample(raw, (len(lines),))) if shown else np.zeros(len(lines))
    colormap = matplotlib.colormaps[DIVERGING if signed else SEQUENTIAL]
    colours = colormap(_between(scaled(heat, limits))) if shown else "0.6"
    times = np.arange(len(lines)) / (rate or 1)
    row = max(_LEAST, _ROW * min(1, 6 / lines.shape[1]))
    height = row * lines.shape[1] + 0.55 + 0.4 * bool(title)
    figure = Figure(figsize=(_WIDTH, max(height, 1.8)), dpi=120, layout="constrained")
    axes = figure.subplots(lines.shape[1], 1, sharex=True, squeeze=False)[:, 0]
    for i, ax in enumerate(axes):
        points = np.stack([times, lines[:, i]], axis=1)
        pieces = np.stack([points[:-1], points[1:]], axis=1)
        # Yellow, or the white of a signed map's middle, is seen on a dark line beneath.
        ax.plot(*points.T, color="0.25", linewidth=2.6, solid_joinstyle="round")
        ax.add_collection(LineCollection(list(pieces), colors=colours, linewidth=1.5))
        ax.margins(x=0.005, y=0.1)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.set_yticks([])
        if i < len(axes) - 1:
            ax.spines["bottom"].set_visible(False)
            ax.tick_params(bottom=False)
        if names:
            ax.set_ylabel(
                **lettered(names[i], name="ylabel"), rotation=0, ha="right", va="center", fontsize=9
            )
    axes[-1].set_xlabel("samples" if rate is None else "seconds", fontsize=9)
    axes[-1].tick_params(labelsize=8)
    scale = ScalarMappable(cmap=colormap)
    bar = figure.colorbar(scale, ax=list(axes), ticks=[0, 1], pad=0.01, aspect=12)
    bar.ax.set_yticklabels(["low", "high"], fontsize=8)
    remark = NOTHING if not shown else SIGNED if signed else ""
    heading = "\n".join(filter(None, (title, remark)))
    if heading:
        figure.suptitle(**lettered(heading, round(TITLE * _WIDTH)), fontsize=11)
    return figure


def _between(unit: np.ndarray) -> np.ndarray:
    """One value for each piece of a line between two samples."""
    return (unit[1:] + unit[:-1]) / 2
