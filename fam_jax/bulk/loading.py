"""Pictures for the device: read, decoded and preprocessed by grain, ahead of it and in order."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grain
import numpy as np
from absl import flags
from etils import epath
from PIL import Image

from fam_jax.io import pictures

_THREADS = 16
_BATCHES = 2  # that wait for the devices


class Load:
    """A path -> a preprocessed picture, or the reason why there is none. Never raises.

    Attributes:
        shape: [H, W, c] of every preprocessed picture.
    """

    def __init__(self, preprocess: Callable[[Image.Image], np.ndarray]) -> None:
        self._preprocess = preprocess
        blank = np.asarray(preprocess(Image.new("RGB", (256, 256))))
        if blank.ndim != 3:
            raise ValueError(f"preprocess: expected pictures [H, W, c], got shape {blank.shape}")
        self.shape, self.dtype = blank.shape, blank.dtype

    def __call__(self, path: str) -> dict[str, np.ndarray]:
        """The arrays `image` [H, W, c], `box` [4] and `reason`; "" gives an empty picture."""
        image, box, reason = np.zeros(self.shape, self.dtype), np.zeros(4, np.float32), ""
        if path:
            try:
                picture = read(path)
                found = np.asarray(self._preprocess(picture))
                if found.shape != self.shape:
                    raise ValueError(
                        f"{path}: preprocess gave {found.shape} where others have {self.shape}"
                    )
                image, box = found, np.asarray(_box(self._preprocess, picture.size), np.float32)
            except Exception as error:  # whatever is wrong with a picture, the job goes on
                reason = " ".join(str(error).split()) or type(error).__name__
        return {"image": image, "box": box, "reason": np.array(reason)}


def read(path: str) -> Image.Image:
    """The picture at a path, local or of any filesystem that etils knows; see `pictures.read`.

    Raises:
        ValueError, OSError: one line.
    """
    file = epath.Path(path)
    try:
        with file.open("rb") as data:
            return pictures.decode(data, path)
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {path}") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path} is a folder; a picture file is expected") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warnings about large pictures, in all threads: `pictures.decode` checks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _box(preprocess: Any, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """What the network sees of a picture: all of it, unless `preprocess` says otherwise."""
    region = getattr(preprocess, "region", None)
    return region(size) if region else (0.0, 0.0, float(size[0]), float(size[1]))


def batches(
    load: Load, paths: Sequence[str], rows: int, workers: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """Loaded pictures, `rows` at a time, in order; the next ones are on their way meanwhile.

    Args:
        load: what to do with a path.
        paths: a multiple of `rows` of them; read lazily, by number.
        rows: pictures of a batch.
        workers: processes that load; 0 for threads of this one.
    """
    dataset = (
        grain.MapDataset.source(paths)
        .map(load)
        .to_iter_dataset(
            grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=max(2 * rows, _THREADS))
        )
    )
    if workers:
        if not flags.FLAGS.is_parsed():  # grain asks for it where its processes start
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(
            grain.multiprocessing.MultiprocessingOptions(
                num_workers=workers, per_worker_buffer_size=max(1, 2 * rows // workers)
            )
        )
    # Whole batches, too, are put together while the devices work.
    ahead = grain.experimental.ThreadPrefetchIterDataset(
        dataset.batch(rows), prefetch_buffer_size=_BATCHES
    )
    return iter(ahead)
