"""Pictures for the devices: read, decoded and preprocessed by grain, ahead of them and in order."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
from absl import flags
from PIL import Image

from fam_jax._core.brief import brief, legible
from fam_jax._core.checks import check_unmasked
from fam_jax.io import pictures

_THREADS = 16
_STEPS_AHEAD = 2
_MOST_WORKERS = 256


class Loader:
    """A path -> an input of the network, or the reason why there is none. Never raises.

    For `run` on files that are no pictures: signals, volumes, tables of points, token ids.

    Args:
        read: a path (or whatever names a query or a reference in the table of pairs) -> an array
            of `shape`. What it raises is the reason why a row has no maps. With worker processes
            it must be one that can be pickled.
        shape: of every input, without the batch: [t, c], [d, h, w, c], [n].
        dtype: of its values.

    Examples:
        >>> import numpy as np
        >>> from fam_jax import bulk
        >>> load = bulk.Loader(np.load, (256, 14))
        >>> str(load("gone.npy")["reason"]).startswith("[Errno 2] No such file")
        True
    """

    def __init__(
        self, read: Callable[[str], Any], shape: tuple[int, ...], dtype: Any = np.float32
    ) -> None:
        if not callable(read):
            raise TypeError(f"read: expected a function of a path, got {type(read).__name__}")
        self._read, self.shape = read, tuple(shape)
        self.dtype = np.dtype(dtype).newbyteorder("=")  # as JAX reads it

    def batch_shape(self, size: int) -> jax.ShapeDtypeStruct:
        """Shape and type of a batch of inputs."""
        return jax.ShapeDtypeStruct((size, *self.shape), self.dtype)

    def __call__(self, path: str) -> dict[str, np.ndarray]:
        """The arrays `image` (the input), `box` [4] and `reason`; "" gives an empty input."""
        image, box, reason = np.zeros(self.shape, self.dtype), np.zeros(4, np.float32), ""
        if path:
            loaded, reason = pictures.tried(self._load, path)
            image, box = loaded or (image, box)
        return {"image": image, "box": box, "reason": np.array(reason)}

    def _load(self, path: str) -> tuple[np.ndarray, np.ndarray]:
        array = self._read(path)
        check_unmasked("read", array)
        array = np.asarray(array)
        if array.shape != self.shape:
            raise ValueError(f"{legible(path)}: expected an array {self.shape}, got {array.shape}")
        if not np.can_cast(array.dtype, self.dtype, "same_kind"):
            raise TypeError(f"{legible(path)}: expected {self.dtype}, got {array.dtype}")
        return array.astype(self.dtype), np.zeros(4, np.float32)

    def facts(self) -> dict[str, Any]:
        """What a store says of how its files were read."""
        return {"loader": brief(self._read)}


class PictureLoader(Loader):
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

    def facts(self) -> dict[str, Any]:
        """What a store says of how its pictures were read; nothing of the usual way."""
        facts = self.reader.facts()
        return {"reading": facts} if facts else {}


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


class StepInputs(NamedTuple):
    """What a step starts from: arrays for this process's devices, and for the host, by chunk."""

    device: dict[str, Any]
    host: Sequence[Any]


def load_pictures(
    load: Loader,
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
            ),
            worker_init_fn=_silence_sizes,
        )
    # Whole steps, too, are put together while the devices work.
    for step in grain.experimental.ThreadPrefetchIterDataset(
        dataset.batch(step_rows), prefetch_buffer_size=_STEPS_AHEAD
    ):
        boxes, reasons = step["box"].reshape(-1, rows, 4), step["reason"].reshape(-1, rows)
        yield StepInputs({"images": step["image"]}, list(zip(boxes, reasons, strict=True)))


def _silence_sizes(number: int, count: int) -> None:
    """In a process that reads: no warnings of Pillow's of sizes, which the reader checks."""
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def _load_row(
    load: Loader,
    chunks: np.ndarray,
    rows: int,
    paths: Callable[[int], Sequence[str]],
    number: int,
) -> dict[str, np.ndarray]:
    place, row = divmod(number, rows)
    chunk = int(chunks.flat[place])
    names = paths(chunk) if chunk >= 0 else ()
    return load(names[row] if row < len(names) else "")
