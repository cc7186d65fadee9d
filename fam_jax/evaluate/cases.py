"""What is explained: batches of images with the reference each is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np


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
        correct: whether the network was right, [n].
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
    correct: np.ndarray | None = None

    @classmethod
    def of(
        cls, images: np.ndarray, references: np.ndarray, background: np.ndarray, **more: Any
    ) -> "Batch":
        """Cases of your own: images [n H W c], embeddings [n d], [m d]; `more` as above."""
        names = more.pop("names", [f"case {i}" for i in range(len(images))])
        swapped = more.pop("swapped", np.roll(references, 1, axis=0))
        pixels = more.pop("pixels", images)
        return cls(names, pixels, images, references, swapped, background, **more)

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Sequence[int] | np.ndarray) -> "Batch":
        """Some of the cases."""
        cut = {
            f.name: getattr(self, f.name)[np.asarray(rows)]
            for f in fields(self)
            if f.name not in _SHARED and getattr(self, f.name) is not None
        }
        return replace(self, names=[self.names[i] for i in rows], **cut)

    def filled(self, count: int) -> "Batch":
        """The same cases in arrays of `count` rows, the last one repeated: one compilation."""
        rows = np.minimum(np.arange(count), len(self) - 1)
        return replace(self.take(rows), names=self.names)


_SHARED = ("names", "background", "background_images", "prototypes")


@dataclass(frozen=True)
class Cases:
    """A task's cases, and how well the network does the task itself.

    Attributes:
        batches: the cases; as many rows each as the first, the last ones repeated to fill it.
        figures: the network's own figures, such as its accuracy.
        about: one line on what the cases are.
        left_out: a line for whatever could not be used.
    """

    batches: list[Batch]
    figures: dict[str, float | int]
    about: str
    left_out: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.batches))


def in_batches(whole: Batch, size: int) -> list[Batch]:
    """The cases, `size` to a batch."""
    size = min(size, len(whole))
    parts = [range(i, min(i + size, len(whole))) for i in range(0, len(whole), size)]
    return [whole.take(part).filled(size) for part in parts]
