"""Score-CAM: every channel's map masks the picture; how alike it stays is the channel's weight."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fam_jax._core.axes import map_axes, space
from fam_jax._core.checks import check_count, wide
from fam_jax._core.chunks import map_chunks
from fam_jax._core.encoder import as_embedding
from fam_jax._core.maps import rescale, upsample
from fam_jax._core.similarity import Similarity, cosine
from fam_jax.methods.method import Method
from fam_jax.methods.perturbation import IMAGES, floats, masked, score_copies, wide_dtype
from fam_jax.methods.sums import relu, weighted


def score_cam(
    similarity: Similarity = cosine, *, channels: int | None = None, chunk: int = 16
) -> Method:
    """Score-CAM: channels weighted by the similarity left when their map masks the picture.

        M = relu(sum_k w_k A_k),   w = softmax_k(score(z(x * rescale(upsample(A_k))), r))

    The softmax runs over the channels, so the score of a baseline, which the paper subtracts, drops
    out. It expects logits: cosines lie at most 2 apart, so the largest weight is at most e^2 times
    the smallest and the map stays close to `activation_sum`, whatever the reference.

    Args:
        channels: use at most so many channels of each image, those of the largest mean activation;
            all if not given. It is the number of masked copies.
        similarity, chunk: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> image = jnp.array([[[[4.0, 0.0], [0.0, 4.0]]]])  # a channel at each of two positions
        >>> method = fam_jax.score_cam(fam_jax.dot)
        >>> maps = fam_jax.explain(encode, image, jnp.array([[10.0, 0.0]]), method).maps
        >>> maps.round(3).tolist()
        [[[4.0, 0.0]]]

    Source: Wang et al.: Score-CAM, CVPR workshops 2020 (arXiv 1910.01279).
    """
    check_count("chunk", chunk)
    if channels is not None:
        check_count("channels", channels)
    return Method(similarity, partial(_score_cam, channels=channels, chunk=chunk), IMAGES)


def _score_cam(similarity, enc, references, *, channels, chunk):
    images, embed = floats(enc.images), as_embedding(enc.encoder)
    (A,) = wide(enc.activations)
    if channels is not None:
        A = _most_active(A, min(channels, A.shape[-1]))

    def scores(k: Array) -> Array:
        maps = upsample(jnp.moveaxis(jnp.take(A, k, axis=-1), -1, 1), images.shape[1:-1])
        copies = masked(images, rescale(maps, axes=map_axes(maps)[1:]))
        return score_copies(embed, similarity, copies, references)

    weights = jax.nn.softmax(map_chunks(scores, np.arange(A.shape[-1]), chunk, axis=1), axis=1)
    dtype = wide_dtype(images, references)
    return relu(weighted(weights.astype(dtype), A.astype(dtype))).value


def _most_active(A: Array, channels: int) -> Array:
    """The `channels` channels [b, *space, channels] of each image with the largest mean."""
    order = jnp.argsort(jnp.mean(A, axis=space(A)), axis=1, descending=True)[:, :channels]
    return jax.vmap(lambda a, k: jnp.take(a, k, axis=-1))(A, order)
