"""Score-CAM: every channel's map masks the picture; how alike it stays is the channel's weight.

w = softmax_k(score(z(x * H_k), r)),   H_k = rescale(upsample(A_k))
M = relu(sum_k w_k A_k)
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fam_jax._core.checks import check_count, wide
from fam_jax._core.encoder import as_embedding
from fam_jax._core.encoding import Encoding
from fam_jax._core.maps import rescale, upsample
from fam_jax._core.pytree import register_dataclass
from fam_jax._core.similarity import Similarity, cosine
from fam_jax.methods.method import Method
from fam_jax.methods.perturbation import IMAGES, fold, masked, score_copies, wide_dtype
from fam_jax.methods.sums import relu, weighted


def score_cam(
    similarity: Similarity = cosine, *, channels: int | None = None, chunk: int = 16
) -> Method:
    """Score-CAM: channels weighted by the similarity left when their map masks the picture.

        H_k = rescale(upsample(A_k)),   w = softmax_k(score(z(x * H_k), r)),
        M = relu(sum_k w_k A_k)

    The softmax runs over the channels, where the score of a baseline, which the paper subtracts,
    is a constant and drops out. It expects logits: cosines lie at most 2 apart, so the largest
    weight is at most e^2 times the smallest and the map stays close to `activation_sum`, whatever
    the reference.

    Args:
        similarity: `cosine`, `dot`, `euclidean`, a `margin` or your own.
        channels: use at most so many channels of each image, those of the largest mean activation;
            all if not given. It is the number of masked copies.
        chunk: masked copies of the whole batch that are embedded at a time.

    Returns:
        A `Method` that needs the images, which are multiplied towards 0: raw maps [b, h, w].

    Raises:
        ValueError, TypeError: for other arguments.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> image = jnp.array([[[[4.0, 0.0], [0.0, 4.0]]]])  # a channel at each of two positions
        >>> method = fam_jax.score_cam(fam_jax.dot)
        >>> maps = fam_jax.explain(encode, image, jnp.array([[10.0, 0.0]]), method).maps
        >>> maps.round(3).tolist()
        [[[4.0, 0.0]]]

    Source:
        Wang et al.: Score-CAM, CVPR workshops 2020 (arXiv 1910.01279).
    """
    check_count("chunk", chunk)
    if channels is not None:
        check_count("channels", channels)
    return Method(similarity, _ScoreCam(channels, chunk), IMAGES)


@partial(register_dataclass, data_fields=[], meta_fields=["channels", "chunk"])
@dataclass(frozen=True)
class _ScoreCam:
    channels: int | None
    chunk: int

    def __call__(self, similarity: Similarity, enc: Encoding, references: Array) -> Array:
        images, embed = enc.images, as_embedding(enc.encoder)
        (A,) = wide(enc.activations)
        if self.channels is not None:
            A = _most_active(A, min(self.channels, A.shape[3]))

        def step(_, indices, valid):
            maps = jnp.moveaxis(jnp.take(A, indices, axis=3), 3, 1)
            copies = masked(images, rescale(upsample(maps, images.shape[1:3])))
            return None, score_copies(embed, similarity, copies, references)

        _, scores = fold(step, None, A.shape[3], self.chunk)  # [rounds, b, n]
        scores = jnp.moveaxis(scores, 1, 0).reshape(A.shape[0], -1)[:, : A.shape[3]]
        weights = jax.nn.softmax(scores, axis=1)
        dtype = wide_dtype(images, references)
        return relu(weighted(weights.astype(dtype), A.astype(dtype))).value


def _most_active(A, channels):
    """The `channels` channels [b, h, w, channels] of each image with the largest mean."""
    order = jnp.argsort(jnp.mean(A, axis=(1, 2)), axis=1, descending=True)[:, :channels]
    return jax.vmap(lambda a, k: jnp.take(a, k, axis=2))(A, order)
