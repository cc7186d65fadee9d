"""Pictures for the device: read, decoded and preprocessed by grain, ahead of it and in order."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import jax
import numpy as np
from absl import flags
from PIL import Image

from fam_jax.io import pictures

_THREADS = 16
_BATCHES_AHEAD = 2


class PictureLoader:
    """A path -> a preprocessed picture, or the reason why there is none. Never raises.

    Attributes:
        shape: [H, W, c] of every preprocessed picture.
        dtype: of its values.
    """

    def __init__(self, preprocess: Callable[[Image.Image], np.ndarray]) -> None:
        self._preprocess = preprocess
        blank = np.asarray(preprocess(Image.new("RGB", (256, 256))))
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
            try:
                image, box = self._load(path)
            except Exception as error:  # whatever is wrong with a picture, the job goes on
                reason = " ".join(str(error).split()) or type(error).__name__
        return {"image": image, "box": box, "reason": np.array(reason)}

    def _load(self, path: str) -> tuple[np.ndarray, np.ndarray]:
        picture = pictures.read_in_thread(path)
        image = np.asarray(self._preprocess(picture))
        if image.shape != self.shape:
            raise ValueError(
                f"{path}: preprocess gave {image.shape} where others have {self.shape}"
            )
        return image, np.asarray(_box(self._preprocess, picture.size), np.float32)


def _box(preprocess: Any, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """What the network sees of a picture: all of it, unless `preprocess` says otherwise."""
    region = getattr(preprocess, "region", None)
    return region(size) if region else (0.0, 0.0, float(size[0]), float(size[1]))


def load_batches(
    load: PictureLoader, paths: Sequence[str], rows: int, workers: int = 0
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
        dataset.batch(rows), prefetch_buffer_size=_BATCHES_AHEAD
    )
    return iter(ahead)
