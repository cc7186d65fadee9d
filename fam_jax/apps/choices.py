"""What the commands let a user choose by name: methods, similarities, backbones."""

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

import fam_jax
from fam_jax._core.checks import check_choice
from fam_jax.io import files, pictures

if TYPE_CHECKING:
    from pretrained_ports import Backbone
else:
    Backbone = Any  # imported by those commands alone that need one

CONTRASTIVE = "contrastive"  # decomposition with a background, by the name of the function
METHODS = {
    "fam": fam_jax.fam,
    "decomposition": fam_jax.decomposition,
    "grad-cam": fam_jax.grad_cam,
    "grad-cam-pp": fam_jax.grad_cam_pp,
    "xgrad-cam": fam_jax.xgrad_cam,
    "layer-cam": fam_jax.layer_cam,
    "hires-cam": fam_jax.hires_cam,
    "eigen-cam": fam_jax.eigen_cam,
    "activation-sum": fam_jax.activation_sum,
}
SIMILARITIES = {
    "cosine": fam_jax.cosine,
    "dot": fam_jax.dot,
    "euclidean": fam_jax.euclidean,
}
RANDOM = "random"  # in place of a checkpoint file
_BATCH = 16


def check(method: str, similarity: str) -> None:
    """Raise ValueError for a name that is none of a method or of a similarity."""
    check_choice("--method", method, (CONTRASTIVE, *METHODS))
    check_choice("--similarity", similarity, SIMILARITIES)


def backbone(
    model: str, weights: Path | str | None, param_dtype: DTypeLike = jnp.float32
) -> Backbone:
    """A backbone by name; `weights` is a checkpoint file, or RANDOM, or None for its own."""
    import pretrained_ports

    if str(weights) == RANDOM:
        return pretrained_ports.create(model, param_dtype=param_dtype)
    return pretrained_ports.load(model, weights, param_dtype=param_dtype)


def weight_facts(backbone: Backbone) -> dict[str, Any]:
    """What the manifest says of a model's weights."""
    file = files.file_facts(backbone.report.source) if backbone.report else {}
    return {"source": backbone.source, **file}


def method_of(method: str, similarity: str, background: Array | None) -> fam_jax.Method:
    """A method by name, of a similarity by name, against a background if there is one."""
    rule = SIMILARITIES[similarity]
    if background is None:
        return METHODS[method](rule)
    if method == CONTRASTIVE:
        return fam_jax.contrastive(background, rule)
    rival = fam_jax.margin(rule, background)
    # Min-max would undo what the background does (contrastive FAM takes signed shares).
    return fam_jax.fam(rival, normalize="none") if method == "fam" else METHODS[method](rival)


def embed(
    encode: fam_jax.Encoder, preprocess: Callable[[Any], np.ndarray], paths: Iterable[Path]
) -> Array | None:
    """Embeddings [n, d] of pictures, a batch in memory at a time; None for none."""
    run = jax.jit(lambda encode, batch: encode(batch).embeddings)
    paths, batches = iter(paths), []
    while batch := list(islice(paths, _BATCH)):
        z = run(encode, np.stack([preprocess(pictures.read(path)) for path in batch]))
        for path, finite in zip(batch, np.isfinite(z.astype(jnp.float32)).all(1), strict=True):
            if not finite:
                raise ValueError(f"{path}: its embedding, computed in {z.dtype}, is not finite")
        batches.append(z)
    return jnp.concatenate(batches) if batches else None
