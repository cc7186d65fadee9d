"""An index with the network that it was made with, for the commands that search."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fam_jax._core.brief import legible
from fam_jax.apps import choice, views
from fam_jax.apps.network import Network
from fam_jax.io.pictures import Reader

if TYPE_CHECKING:
    from fam_jax.bulk import Index
else:
    Index = Any  # needs the extra bulk


class Indexed(NamedTuple):
    """An index, the status of its rows, its network, how it reads, and what is to be said."""

    index: Index
    status: np.ndarray
    net: Network
    reader: Reader
    lines: list[str]


def open_indexed(
    path: str, model: str | None, weights: str | None, fit: str | None, *, partial: bool
) -> Indexed:
    """The index at a path; the other options are those of `fam-jax retrieve`.

    ValueError where they are others than the index's.
    """
    from fam_jax import bulk
    from fam_jax.apps import jobs

    index = bulk.open_index(path, partial=partial)
    status = index.check_finished()
    made = index.settings
    for option, given in (("model", model), ("fit", fit)):
        if given not in (None, made.get(option, given)):
            raise ValueError(
                f"{legible(path)} was made with another --{option}: {made[option]} there, {given} "
                "now"
            )
    weights = weights or made.get("weights") or made.get("weights_file")
    # An index made from Python says less of its network: what it lacks is the network's own.
    own: dict[str, Any] = {"head": "drop", "compute": "float32"} | {
        name: made[name]
        for name in ("entry", "grid", "head", "layer", "gates", "compute")
        if name in made
    }
    net, lines = choice.open_network(
        made.get("model", model), weights, image_size=_image_size(made), **own
    )
    net = views.fitted(net, made.get("fit", fit))
    lines = [*lines, *jobs.unfinished(path, status)]
    return Indexed(index, status, net, Reader.of(made), lines)


def _image_size(made: Mapping[str, Any]) -> list[int] | None:
    """What the index says that the network sees; of one made from Python, by its inputs."""
    shape = re.fullmatch(r"\w+ \[(\d+), (\d+), \d+\]", str(made.get("input")))
    return made.get("image_size") or (shape and [int(shape[1]), int(shape[2])])
