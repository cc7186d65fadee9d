"""Score-CAM: every channel's map masks the picture; how alike it stays is the channel's weight.

w = softmax_k(score(z(x * H_k), r)),   H_k = rescale(upsample(A_k))
M = relu(sum_k w_k A_k)
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.checks import AnyArray, check_count, wide
from fam_jax._core.encoding import Encoder, as_embedding
from fam_jax._core.maps import rescale, upsample
from fam_jax._core.similarity import Similarity, as_similarity, cosine
from fam_jax.methods.perturbation import (
    check_pairs,
    fold,
    masked,
    sayable_maps,
    score_copies,
    wide_dtype,
)
from fam_jax.methods.sums import relu, weighted


def score_cam(
    encode: Encoder,
    images: Float[AnyArray, "b H W c"],
    references: Float[AnyArray, "b d"],
    similarity: Similarity = cosine,
    *,
    channels: int | None = None,
    chunk: int = 16,
) -> Float[Array, "b h w"]:
    """Channels weighted by the similarity that is left when their map masks the picture.

        H_k = rescale(upsample(A_k)),   w = softmax_k(score(z(x * H_k), r)),
        M = relu(sum_k w_k A_k)

    The softmax runs over the channels, where the score of a baseline, which the paper subtracts,
    is a constant and drops out. It expects logits: cosines lie at most 2 apart, so the largest
    weight is at most e^2 times the smallest and the map stays close to `activation_sum`, whatever
    the reference.

    Args:
        encode: from `capture` or `encoder`.
        images: preprocessed images; what is masked is multiplied towards 0.
        references: an embedding for each image.
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own.
        channels: use this many channels of each image, those of the largest mean activation; all
            if not given. It is the number of masked copies.
        chunk: masked copies of the whole batch that are embedded at a time.

    Returns:
        Raw maps [b, h, w].

    Raises:
        ValueError, TypeError: for arguments of other shapes or types, or more channels than there
            are.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> image = jnp.array([[[[4.0, 0.0], [0.0, 4.0]]]])  # a channel at each of two positions
        >>> maps = fam_jax.score_cam(encode, image, jnp.array([[10.0, 0.0]]), fam_jax.dot)
        >>> maps.round(3).tolist()
        [[[4.0, 0.0]]]

    Source:
        Wang et al.: Score-CAM, CVPR workshops 2020 (arXiv 1910.01279).
    """
    if not isinstance(encode, Encoder):
        raise TypeError(
            "encode: expected fam_jax.capture(model, at=...) or fam_jax.encoder(...), got "
            f"{type(encode).__name__}"
        )
    check_pairs(images, references)
    check_count("chunk", chunk)
    if channels is not None:
        check_count("channels", channels)
    similarity = as_similarity(similarity)
    return _score_cam(encode, images, references, similarity, channels=channels, chunk=chunk)


@partial(jax.jit, static_argnames=("channels", "chunk"))
def _score_cam(encode, images, references, similarity, *, channels, chunk):
    (A,) = wide(encode(images).activations)
    if channels is not None:
        check_count("channels", channels, A.shape[3])
        A = _most_active(A, channels)
    embed = as_embedding(encode)

    def step(_, indices, valid):
        maps = jnp.moveaxis(jnp.take(A, indices, axis=3), 3, 1)
        copies = masked(images, rescale(upsample(maps, images.shape[1:3])))
        return None, score_copies(embed, similarity, copies, references)

    _, scores = fold(step, None, A.shape[3], chunk)  # [rounds, b, n]
    scores = jnp.moveaxis(scores, 1, 0).reshape(A.shape[0], -1)[:, : A.shape[3]]
    weights = jax.nn.softmax(scores, axis=1)
    dtype = wide_dtype(images, references)
    maps = relu(weighted(weights.astype(dtype), A.astype(dtype))).value
    return sayable_maps(maps, references)


def _most_active(A, channels):
    """The `channels` channels [b, h, w, channels] of each image with the largest mean."""
    order = jnp.argsort(jnp.mean(A, axis=(1, 2)), axis=1, descending=True)[:, :channels]
    return jax.vmap(lambda a, k: jnp.take(a, k, axis=2))(A, order)
