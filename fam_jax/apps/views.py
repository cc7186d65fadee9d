"""What the network sees of pictures: `--fit`."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from fam_jax._core.brief import legible
from fam_jax._core.chunks import map_batches
from fam_jax.apps.network import Network

if TYPE_CHECKING:
    from pretrained_ports.preprocess import View
else:
    View = Any

JOB_FITS = ("crop", "pad")  # of each picture, whatever it is compared with
FITS = (*JOB_FITS, "tile")
_BATCH = 16
_NAMED = 3  # pictures in a line of text
_SLIGHT = 0.005  # share of a picture that may be left out without a word


def fitted(net: Network, fit: str | None) -> Network:
    """The network with a preprocessing that crops or pads, if that was asked for."""
    before = net.preprocess
    if fit in (None, "tile", net.fit):
        return net
    after = replace(before, fit=fit, resize=before.resize or max(before.size))
    backbone = replace(net.backbone, preprocess=after)
    return replace(net, backbone=backbone, encode=replace(net.encode, preprocess=after))


def opened(
    net: Network,
    fit: str | None,
    similarity: Any,
    pictures: Sequence[Image.Image],
    aims: Any,
) -> list[tuple[View, ...]]:
    """The views to explain: of the first picture, and of each other one, or embedding of `aims`.

    For "tile", those two windows, a of the first and b of the other, whose score(z_a, z_b) is the
    highest of all: one window alone, where there are embeddings.
    """
    open_ = net.preprocess.open
    if fit != "tile":
        first, *others = map(open_, pictures)
        return [(first, other) for other in others] or [(first,)] * len(aims)
    windows = [net.preprocess.windows(picture.size) for picture in pictures]
    z, *rest = [_embedded(net, *one) for one in zip(pictures, windows, strict=True)]
    pairs = []
    for i, r in enumerate(rest or [aim[None] for aim in aims]):
        a, b = _nearest(similarity, z, r)
        seen = [(pictures[0], windows[0][a])]
        seen += [(pictures[i + 1], windows[i + 1][b])] if rest else []
        pairs.append(tuple(open_(picture, box) for picture, box in seen))
    return pairs


def _embedded(net: Network, picture: Image.Image, boxes: Sequence) -> np.ndarray:
    """Embeddings [n d] of parts of a picture, a batch in memory at a time."""

    def load(rows: slice) -> np.ndarray:
        return np.stack([net.preprocess(picture, box) for box in boxes[rows]])

    return map_batches(partial(_embed, net.encode), load, len(boxes), _BATCH)


@jax.jit
def _embed(encode: Any, images: Any) -> Any:
    return encode(images).embeddings


@jax.jit
def _scores(similarity: Any, z: Any, r: Any) -> Any:
    """Of all pairs, [r n]; a row at a time, since there may be many."""
    return jax.lax.map(lambda one: similarity.score(z, jnp.broadcast_to(one, z.shape)), r)


def _nearest(similarity: Any, z: Any, r: Any) -> tuple[int, int]:
    scores = np.asarray(_scores(similarity, z, r))
    b, a = np.unravel_index(np.nan_to_num(scores, nan=-np.inf).argmax(), scores.shape)
    return int(a), int(b)


def left_out(query: str, names: Sequence[str], seen: Sequence[tuple], fit: str) -> list[str]:
    """One line, if not all of the pictures was seen: how much of each."""
    shares = {}
    for name, views in zip(names, seen, strict=True):
        for one, view in zip((query, name), views, strict=False):
            shares[one] = min(share(view.picture.size, view.box), shares.get(one, 1))
    least = sorted((part, name) for name, part in shares.items() if part < 1 - _SLIGHT)
    if not least:
        return []
    some = ", ".join(f"{part:.0%} of {legible(Path(name).name)}" for part, name in least[:_NAMED])
    more = f" and part of {len(least) - _NAMED} more" if len(least) > _NAMED else ""
    if fit == "tile":
        return [f"the windows most alike are {some}{more}; the rest is grey in the figures"]
    return [f"the network saw {some}{more}; the rest is grey in the figures; --fit pad shows all"]


def share(size: Sequence[int], box: Sequence[float | int]) -> float:
    """How much of the area of a picture of this width and height is in a box."""
    left, top, right, bottom = box
    width, height = size
    inside = (min(right, width) - max(left, 0)) * (min(bottom, height) - max(top, 0))
    return inside / (width * height)
