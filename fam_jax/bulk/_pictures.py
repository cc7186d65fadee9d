"""Pictures for the devices: read, decoded and preprocessed by grain, ahead of them and in order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
from absl import flags
from PIL import Image

from fam_jax._core.brief import legible
from fam_jax.io import pictures

_THREADS = 16
_STEPS_AHEAD = 2
_MOST_WORKERS = 256


class PictureLoader:
    """A path -> a preprocessed picture, or the reason why there is none. Never raises.

    Attributes:
        shape: [H, W, c] of every preprocessed picture.
        dtype: of its values.
    """

    def __init__(
        self, preprocess: Callable[[Image.Image], np.ndarray], reader: pictures.Reader | None = None
    ) -> None:
        self._preprocess, self.reader = preprocess, reader or pictures.Reader()
        if self.reader.convert:
            blank = np.asarray(preprocess(Image.new("RGB", (256, 256))))
        else:
            blank = _blank_of_a_mode(preprocess)
        if blank.ndim != 3:
            raise ValueError(f"preprocess: expected pictures [H, W, c], got shape {blank.shape}")
        self.shape, self.dtype = blank.shape, blank.dtype

    def batch_shape(self, size: int) -> jax.ShapeDtypeStruct:
        """Shape and type of a batch of pictures."""
        return jax.ShapeDtypeStruct((size, *self.shape), self.dtype)

    def __call__(self, path: str) -> dict[str, np.ndarray]:
        """The arrays `image` [H, W, c], `box` [4] and `reason`; "" gives an empty picture."""
        image, box, reason = np.zeros(self.shape, self.dtype), np.zeros(4, np.float32), ""
        if path:
            loaded, reason = pictures.tried(self._load, path)
            image, box = loaded or (image, box)
        return {"image": image, "box": box, "reason": np.array(reason)}

    def _load(self, path: str) -> tuple[np.ndarray, np.ndarray]:
        with self.reader.opened(path) as picture:
            image, size = np.asarray(self._preprocess(picture)), picture.size
        if image.shape != self.shape:
            raise ValueError(
                f"{legible(path)}: preprocess gave {image.shape} where others have {self.shape}"
            )
        # What the network sees: all of the picture, unless `preprocess` says otherwise.
        region = getattr(self._preprocess, "region", lambda size: (0, 0, *size))
        return image, np.asarray(region(size), np.float32)


def _blank_of_a_mode(preprocess: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    """A preprocessed picture of the first mode that is taken, where files keep theirs."""
    for mode in ("I;16", "F", "I", "L", "CMYK"):
        with suppress(Exception):  # of one that this preprocessing is not for
            blank = np.asarray(preprocess(Image.new(mode, (256, 256))))
            if blank.ndim == 3:
                return blank
    return np.asarray(preprocess(Image.new("RGB", (256, 256))))  # its error is the user's


def check_workers(workers: int) -> None:
    """Raise ValueError for what is no number of processes that read pictures."""
    if not 0 <= workers <= _MOST_WORKERS:
        raise ValueError(f"workers: expected 0 to {_MOST_WORKERS} processes, got {workers}")


def reading_facts(load: PictureLoader) -> dict[str, Any]:
    """What a store says of how its pictures were read; nothing of the usual way."""
    facts = load.reader.facts()
    return {"reading": facts} if facts else {}


class StepInputs(NamedTuple):
    """What a step starts from: arrays for this process's devices, and for the host, by chunk."""

    device: dict[str, Any]
    host: Sequence[Any]


def load_pictures(
    load: PictureLoader,
    chunks: np.ndarray,
    rows: int,
    paths: Callable[[int], Sequence[str]],
    workers: int = 0,
) -> Iterator[StepInputs]:
    """Every step's `images`, with the boxes and reasons of each chunk; ahead of the devices.

    Args:
        load: what to do with a path.
        chunks: of this process, [steps, devices]; -1 where there is none.
        rows: pictures of a chunk; empty ones where there are fewer.
        paths: a chunk -> its pictures, at most `rows`; to be pickled, as `load` is.
        workers: processes that load; 0 for threads of this one.
    """
    load_row = partial(_load_row, load, chunks, rows, paths)
    step_rows = chunks.shape[1] * rows
    threads = grain.ReadOptions(
        num_threads=_THREADS, prefetch_buffer_size=max(2 * step_rows, _THREADS)
    )
    dataset = grain.MapDataset.range(chunks.size * rows).map(load_row).to_iter_dataset(threads)
    if workers:
        if not flags.FLAGS.is_parsed():  # grain asks for it where its processes start
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(
            grain.multiprocessing.MultiprocessingOptions(
                num_workers=workers, per_worker_buffer_size=max(1, 2 * step_rows // workers)
            )
        )
    # Whole steps, too, are put together while the devices work.
    for step in grain.experimental.ThreadPrefetchIterDataset(
        dataset.batch(step_rows), prefetch_buffer_size=_STEPS_AHEAD
    ):
        boxes, reasons = step["box"].reshape(-1, rows, 4), step["reason"].reshape(-1, rows)
        yield StepInputs({"images": step["image"]}, list(zip(boxes, reasons, strict=True)))


def _load_row(
    load: PictureLoader,
    chunks: np.ndarray,
    rows: int,
    paths: Callable[[int], Sequence[str]],
    number: int,
) -> dict[str, np.ndarray]:
    place, row = divmod(number, rows)
    chunk = int(chunks.flat[place])
    names = paths(chunk) if chunk >= 0 else ()
    return load(names[row] if row < len(names) else "")
