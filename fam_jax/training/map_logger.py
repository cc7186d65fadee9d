"""Watch maps while a network learns: fixed pairs of images, explained every so many steps.

folder/probe.npz               the pictures, and the digest of images and layer
folder/maps/step-00000050.npz  raw maps of both images, scores, valid
folder/strip.png               the pictures, and their maps through training
folder/events.out.tfevents.*   overlays and scores, for TensorBoard; or for Weights & Biases, too
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fam_jax import plot
from fam_jax._core.capture import capture
from fam_jax._core.checks import AnyArray, check_count
from fam_jax._core.extras import needed
from fam_jax._core.prepare import Inputs, check_inputs
from fam_jax.io import files
from fam_jax.io.arrays import load
from fam_jax.methods import Method
from fam_jax.methods.explain import PairExplanation, explain_pairs
from fam_jax.training._flat import flat_map, flat_pictures
from fam_jax.training.strips import MAPS, PROBE, SIDES, maps_file, steps_in, strip


class MapLogger:
    """Maps of fixed pairs through training: raw, as a strip of pictures, and in TensorBoard.

    `logger(step, model)` does nothing but compare two integers on other steps than every N-th.
    On those it explains the pairs with the model as it is *used*: a copy in evaluation mode, so
    with running statistics and without dropout; the model itself stays in its mode. The first
    of them compiles, the others do not.

    Args:
        queries: preprocessed images, or other inputs; `references` are the others of each pair.
        at: the layer, as `capture` takes it, and so are `tokens`, `layout` and `gates`.
        every: steps from one look to the next.
        method: `fam()` if not given.
        pictures: what to show under the maps, for queries and references: a pair of lists of
            pictures (see `plot.overlay`). By default the images, each brought to [0, 1]; images
            of more or fewer than 3 channels are shown in grey, signals as lines, volumes and video
            by their brightest values along all axes but the last two, and maps likewise.
        resume: go on in a folder that holds maps of these images and this layer, which is refused
            otherwise: those of the next step and of later ones, from a run that went beyond its
            last checkpoint, are replaced.
        wandb: a run that `wandb.init` gave: overlays and scores are logged there, too, under the
            same names and with the same steps. Of several processes the first logs.

    Examples:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from fam_jax.training import MapLogger
        >>> class Net(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        ...     def __call__(self, images):
        ...         return nnx.relu(self.conv(images)).mean((1, 2))
        >>> model, images = Net(nnx.Rngs(0)), jnp.ones((2, 16, 16, 3))
        >>> with MapLogger(tempfile.mkdtemp(), images, images, at="conv", every=50) as logger:
        ...     for step in range(101):
        ...         logger(step, model)
        >>> sorted(file.name for file in (logger.folder / "maps").iterdir())
        ['step-00000000.npz', 'step-00000050.npz', 'step-00000100.npz']
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        queries: Inputs,
        references: Inputs,
        *,
        at: str,
        every: int,
        method: Method | Callable | None = None,
        tokens: Any = None,
        layout: str = "NHWC",
        gates: str = "free",
        pictures: tuple[Any, Any] | None = None,
        resume: bool = False,
        wandb: Any = None,
    ):
        check_count("every", every)
        check_inputs("queries", queries)
        check_inputs("references", references)
        if len(queries) != len(references):
            raise ValueError(f"{len(queries)} queries but {len(references)} references, for pairs")
        self.folder, self.every = Path(folder), every
        self._pairs = queries, references
        sides = zip(self._pairs, pictures or (None, None), strict=True)
        self._pictures = [_shown(images, given) for images, given in sides]
        self._method = method
        self._capture = {"at": at, "tokens": tokens, "layout": layout, "gates": gates}
        self._writer, self._run = None, wandb
        if jax.process_index() == 0:
            self._open(resume)

    def __call__(self, step: int, model: Callable) -> None:
        """Explain the pairs if `step`, the number of updates done, is a multiple of `every`."""
        if step % self.every == 0:
            self.log(step, model)

    def log(self, step: int, model: Callable) -> PairExplanation:
        """Explain the pairs now, whatever the step, and write the maps.

        A model that is no `flax.nnx` module, but taken by `capture`, is used in the mode it is in.
        """
        encode = capture(_in_use(model), **self._capture)
        out = explain_pairs(encode, *self._pairs, self._method)
        if jax.process_index() == 0:
            self._write(step, jax.tree.map(np.asarray, out))
        return out

    def close(self) -> None:
        """Close TensorBoard's file; the others are complete after every look."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> "MapLogger":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open(self, resume: bool) -> None:
        with needed("MapLogger needs", "train"):
            import tensorboardX  # noqa: F401
        digest = hashlib.sha256(repr(self._capture).encode())
        for images in self._pairs:
            digest.update(np.ascontiguousarray(images).data)
        setup = np.array(digest.hexdigest())
        probe = self.folder / PROBE
        if probe.exists():
            last = max(steps_in(self.folder), default=None)
            if not resume and last is not None:
                raise FileExistsError(
                    f"the folder {self.folder} holds maps up to step {last}; pass resume=True to "
                    "go on there, or another folder"
                )
            if last is not None and load(probe, ["setup"])["setup"] != setup:
                raise ValueError(
                    f"the folder {self.folder} holds maps of other images or of another layer or "
                    "gates; take another folder"
                )
        (self.folder / MAPS).mkdir(parents=True, exist_ok=True)
        own = files.parts(self.folder, [PROBE, "strip.png"])
        for part in (*own, *files.parts(self.folder / MAPS)):
            part.unlink()
        sides = zip(SIDES, self._pictures, strict=True)
        shown = {f"{side}_{i}": x for side, xs in sides for i, x in enumerate(xs)}
        files.save_arrays(probe, {"setup": setup, **shown})

    def _write(self, step: int, out: PairExplanation) -> None:
        from tensorboardX import SummaryWriter

        if self._writer is None:  # what a run without a break would not have written by now
            for later in steps_in(self.folder):
                if later >= step:
                    maps_file(self.folder, later).unlink()
            self._writer = SummaryWriter(str(self.folder), purge_step=step)
        files.save_arrays(maps_file(self.folder, step), out._asdict())
        images, scores = {}, {f"pair_{i}/score": float(x) for i, x in enumerate(out.scores)}
        for side, pictures, maps in zip(SIDES, self._pictures, out[:2], strict=True):
            for i, (picture, m) in enumerate(zip(pictures, maps, strict=True)):
                m = flat_map(m)
                shown = plot.overlay(picture, m if out.valid[i] else np.zeros_like(m))
                images[f"pair_{i}/{side}"] = shown
        for name, image in images.items():
            self._writer.add_image(name, image, step, dataformats="HWC")
        for name, score in scores.items():
            self._writer.add_scalar(name, score, step)
        self._writer.flush()
        if self._run is not None:
            import wandb  # pyright: ignore[reportMissingImports]

            media = {name: wandb.Image(image) for name, image in images.items()}
            self._run.log({**media, **scores}, step=step)
        files.save_figure(self.folder / "strip.png", strip(self.folder))


def _in_use(model: Callable) -> Callable:
    """A flax.nnx module's copy in evaluation mode, around the same arrays; others as they are."""
    from flax import nnx

    if not isinstance(model, nnx.Module):
        return model
    copy = nnx.merge(*nnx.split(model))
    copy.eval()
    return copy


def _shown(images: AnyArray, pictures: Any) -> list[np.ndarray]:
    """One picture, uint8 [H, W, 3], for every image."""
    if pictures is None:
        pictures = flat_pictures(images)
    if len(pictures) != len(images):
        raise ValueError(f"pictures: {len(pictures)} of them for {len(images)} images")
    return [plot.overlay(picture, np.zeros((1, 1), np.float32)) for picture in pictures]
