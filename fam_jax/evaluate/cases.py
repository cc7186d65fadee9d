"""What is explained: batches of images with the reference each is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fam_jax._core.brief import one_line
from fam_jax._core.chunks import padded_batches

_BATCH = 16
_SHARED = ("names", "background", "background_images", "prototypes")


@dataclass(frozen=True)
class Batch:
    """Cases that share a background and, in an episode, prototypes; of all else there are n.

    Attributes:
        names: what to call each case.
        pixels: what the network sees of the images, uint8 [n H W c].
        images: its input, [n H W c].
        references: the embeddings they are compared with, [n d].
        swapped: an embedding of another class each, [n d].
        background: embeddings of other pictures, [m d]: what a margin subtracts.
        others: the images they are compared with, where they are images, [n H W c].
        swapped_others: the images `swapped` embeds, [n H W c].
        background_images: the images `background` embeds, [m H W c].
        masks: where the map should point, [n H W].
        prototypes: the classes that were to choose from, [k d].
        same: whether both images of a pair show the same, [n].
    """

    names: list[str]
    pixels: np.ndarray
    images: np.ndarray
    references: np.ndarray
    swapped: np.ndarray
    background: np.ndarray
    others: np.ndarray | None = None
    swapped_others: np.ndarray | None = None
    background_images: np.ndarray | None = None
    masks: np.ndarray | None = None
    prototypes: np.ndarray | None = None
    same: np.ndarray | None = None

    __repr__ = one_line

    @classmethod
    def of(
        cls, images: np.ndarray, references: np.ndarray, background: np.ndarray, **more: Any
    ) -> "Batch":
        """Cases of your own: images [n H W c], embeddings [n d], [m d]; `more` as above."""
        more.setdefault("names", [f"case {i}" for i in range(len(images))])
        more.setdefault("swapped", np.roll(references, 1, axis=0))
        more.setdefault("pixels", images)
        return cls(images=images, references=references, background=background, **more)

    def __len__(self) -> int:
        return len(self.names)

    def _rows(self, rows: slice | np.ndarray) -> dict[str, np.ndarray]:
        own = {name: x for name, x in vars(self).items() if name not in _SHARED and x is not None}
        return {name: x[rows] for name, x in own.items()}

    def take(self, rows: Sequence[int] | np.ndarray) -> "Batch":
        """Some of the cases."""
        return replace(self, names=[self.names[i] for i in rows], **self._rows(np.asarray(rows)))


@dataclass(frozen=True)
class Cases:
    """A task's cases, and how well the network does the task itself."""

    batches: list[Batch]  # as many rows each as the first, the last ones repeated to fill it
    figures: dict[str, float | int]  # the network's own, such as its accuracy
    about: str  # what the cases are, in one line
    left_out: list[str] = field(default_factory=list)  # a line for whatever could not be used

    __repr__ = one_line

    @classmethod
    def of(cls, whole: Batch, figures: dict, about: str, left_out: list[str]) -> "Cases":
        """The cases of one batch, 16 at a time or all."""
        return cls(in_batches(whole, min(_BATCH, len(whole))), figures, about, left_out)

    def __len__(self) -> int:
        return sum(map(len, self.batches))


def in_batches(whole: Batch, size: int) -> list[Batch]:
    """The cases in arrays of `size` rows each; the last one has copies, of which no name tells."""
    batches = padded_batches(whole._rows, len(whole), size)
    names = (whole.names[start : start + size] for start in range(0, len(whole), size))
    return [replace(whole, names=n, **rows) for n, (rows, _) in zip(names, batches, strict=True)]
