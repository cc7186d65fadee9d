"""What a point of one picture meets in the other."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from fam_jax._core.brief import legible
from fam_jax.apps import views
from fam_jax.apps.drawing import ROLES
from fam_jax.apps.live.opened import Opened, Picture
from fam_jax.methods.pairs import centred, position_pairs


class Met(NamedTuple):
    """What a point meets.

    Attributes:
        heat: raw map of the other picture [h, w], its shares with the point beyond what every
            point shares: the positive part.
        share: of the score, all that is the point's.
        point: the middle of the point's cell, in shares of its picture's sides: x, y.
        peak: where the heat is highest, in shares of the other's sides; None if it is nowhere.
    """

    heat: np.ndarray
    share: float
    point: tuple[float, float]
    peak: tuple[float, float] | None


def met(
    opened: Opened,
    layer: str,
    pictures: tuple[Picture, Picture],
    side: str,
    point: tuple[float, float],
) -> Met:
    """What a point, x and y in shares of the sides of the picture of a `side`, meets.

    ValueError for a point that the network did not see, or a similarity that points cannot share.
    """
    net = opened.at(layer)
    images = [picture.image for picture in pictures]
    ((query, reference),) = views.opened(net, opened.fit, opened.similarity, images, jnp.zeros(0))
    first, second = (net.encode(view.input[None]) for view in (query, reference))
    p2p = position_pairs(first, second, opened.similarity)
    both = np.asarray(p2p[0]), np.asarray(centred(p2p)[0])
    own, other = query, reference
    if side != ROLES[0]:
        own, other = reference, query
        both = tuple(shares.transpose(2, 3, 0, 1) for shares in both)
    plain, beyond = both
    cell = _cell(own, plain.shape[:2], point)
    if cell is None:
        name = pictures[ROLES.index(side)].name
        raise ValueError(f"the network did not see this place of {legible(name)}")
    heat = np.maximum(beyond[cell], 0)
    peak = np.unravel_index(heat.argmax(), heat.shape) if heat.any() else None
    return Met(
        heat,
        float(plain[cell].sum()),
        _middle(own, plain.shape[:2], cell),
        None if peak is None else _middle(other, heat.shape, peak),
    )


def _cell(view: views.View, grid: tuple[int, ...], point: tuple[float, float]) -> tuple | None:
    """Row and column of the map's cell under a point; None outside of what was seen."""
    left, top, right, bottom = view.box
    across = (point[0] * view.picture.width - left) / (right - left)
    down = (point[1] * view.picture.height - top) / (bottom - top)
    if not (0 <= across < 1 and 0 <= down < 1):
        return None
    return int(down * grid[0]), int(across * grid[1])


def _middle(view: views.View, grid: tuple[int, ...], cell: tuple) -> tuple[float, float]:
    left, top, right, bottom = view.box
    x = left + (cell[1] + 0.5) / grid[1] * (right - left)
    y = top + (cell[0] + 0.5) / grid[0] * (bottom - top)
    return float(x / view.picture.width), float(y / view.picture.height)
