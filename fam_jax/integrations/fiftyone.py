"""A store of maps in FiftyOne: every pair is a group of two samples, "query" and "reference".

map    Heatmap of the whole picture: the raw map where the network looked, 0 elsewhere
box    Detections: the box of that map, `metrics.box_of`, in shares of the picture
score, row, name, label, reason: as the store's rows have them
"""

# It takes `import fiftyone` for this very file:
# pyright: reportAttributeAccessIssue=false
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import ExifTags, Image

from fam_jax._core.extras import needed
from fam_jax.io.pictures import tried
from fam_jax.metrics import box_of
from fam_jax.store import Row, Store, misplaced

with needed("fam_jax.integrations.fiftyone needs", "fiftyone"):
    import fiftyone as fo


def dataset(store: Store, name: str | None = None, rows: Iterable[int] | None = None) -> fo.Dataset:
    """A dataset of some or all rows of a store, with a name of its own; for `fo.launch_app`."""
    made = fo.Dataset(name)
    made.add_group_field("pair", default="query")
    made.add_samples(samples(store, rows))
    return made


def samples(store: Store, rows: Iterable[int] | None = None) -> Iterator[fo.Sample]:
    """Two samples a pair, read as they are asked for; ValueError for signals and volumes."""
    wanted = list(range(len(store)) if rows is None else rows)
    for start in range(0, len(wanted), 256):
        for row in store.rows(wanted[start : start + 256]):
            group = fo.Group()
            for side in ("query", "reference"):
                yield _sample(row, side, group.element(side))


def _sample(row: Row, side: str, pair: fo.Group) -> fo.Sample:
    path, seen, box = (getattr(row, side + part) for part in ("", "_map", "_box"))
    reason, shown = row.reason, {}
    if seen is not None and seen.ndim != 2:
        raise ValueError(f"FiftyOne shows maps of pictures, [h w]; these are {list(seen.shape)}")
    if seen is not None and box is not None:
        size, reason = tried(_upright_size, path)
        reason = misplaced(box, size) if size else reason
        seen = _whole(seen, box, size) if size and not reason else None
    if seen is not None:
        left, top, right, bottom = np.asarray(box_of(seen[None]))[0] / (seen.shape[::-1] * 2)
        region = fo.Detection(label=side, bounding_box=[left, top, right - left, bottom - top])
        shown["map"] = fo.Heatmap(map=seen, range=[min(0, seen.min()), max(0, seen.max())])
        shown["box"] = fo.Detections(detections=[region])
    score = None if np.isnan(row.score) else row.score
    about = {"row": row.index, "name": row.id, "label": row.label, "reason": reason or None}
    return fo.Sample(filepath=str(path), pair=pair, score=score, **about, **shown)


def _whole(seen: np.ndarray, box: tuple, size: tuple[int, ...]) -> np.ndarray:
    """The map of a part of a picture as one of all of it, in pixels of a quarter of the map's."""

    def pixels(n: int, low: float, high: float, side: int) -> np.ndarray:
        count = max(1, round(4 * n * side / (high - low)))
        at = ((np.arange(count) + 0.5) * side / count - low) / (high - low) * n
        return np.where((at >= 0) & (at < n), at, n).astype(int)

    (h, w), (left, top, right, bottom), (width, height) = seen.shape, box, size
    where = np.ix_(pixels(h, top, bottom, height), pixels(w, left, right, width))
    return np.pad(seen, (0, 1))[where]


def _upright_size(path: str) -> tuple[int, ...]:
    with Image.open(path) as picture:
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return picture.size[::-1] if turned else picture.size
