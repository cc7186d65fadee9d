"""What an image is compared with when it is not another image: reference embeddings."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fam_jax._core.brief import one_line
from fam_jax._core.checks import AnyArray, check_float, check_plain, wide
from fam_jax._core.similarity import normalize


def prototypes(
    embeddings: Float[AnyArray, "n d"], labels: Int[AnyArray, " n"], num_classes: int
) -> Float[Array, "k d"]:
    """The mean support embedding of every class, as in prototypical networks.

        p_c = mean of z_i over the i with label c

    Labels outside 0 .. k - 1 are left out. A class with no support has zeros, against which an
    explanation is reported as not valid.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> z = jnp.array([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
        >>> fam_jax.prototypes(z, jnp.array([0, 0, 1]), num_classes=2).tolist()
        [[2.0, 0.0], [0.0, 5.0]]

    Source: Snell, Swersky, Zemel: Prototypical Networks, NeurIPS 2017.
    """
    check_float("embeddings", embeddings, "n d")
    _check_labels(labels, embeddings.shape[0], "embeddings")
    if num_classes < 1:
        raise ValueError(f"num_classes: expected a positive number, got {num_classes}")
    return _prototypes(embeddings, labels, num_classes)


@partial(jax.jit, static_argnums=2)
def _prototypes(embeddings: Array, labels: Array, num_classes: int) -> Array:
    (z,) = wide(embeddings)
    member = jax.nn.one_hot(labels, num_classes, dtype=z.dtype)
    count = jnp.sum(member, axis=0)[:, None]
    total = jnp.matmul(member.T, z, precision=jax.lax.Precision.HIGHEST)
    return total / jnp.where(count == 0, 1, count)


class Neighbours(NamedTuple):
    """The nearest neighbours of q queries, made by `neighbours`; nearest first."""

    indices: Int[Array, "q k"]  # rows of the bank
    similarities: Float[Array, "q k"]  # cosines
    kept: Bool[Array, "q k"]  # which are of the predicted class; all, without labels
    labels: Int[Array, " q"] | None  # the predicted class; None without labels
    reference: Float[Array, "q d"]  # the mean of the kept neighbours' normalised embeddings

    __repr__ = one_line


def neighbours(
    query: Float[AnyArray, "q d"],
    bank: Float[AnyArray, "n d"],
    k: int = 20,
    labels: Int[AnyArray, " n"] | None = None,
    temperature: float = 0.07,
) -> Neighbours:
    """The k-NN rule of contrastive learning, and the reference that explains its decision.

        class score = sum over the top k of 1[y_n = c] exp(cos_n / temperature)

    Of the top k, the neighbours of the winning class are kept. FAM's weights averaged over them
    are FAM's weights against `reference`, their mean, up to a positive factor.

    Args:
        query: embeddings.
        bank: embeddings to search.
        k: neighbours, 1 to n.
        labels: classes of the bank; without them every neighbour is kept.
        temperature: sharpness of the vote.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> bank = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> nearest = fam_jax.neighbours(bank[:1], bank, k=2, labels=jnp.array([7, 7, 3]))
        >>> nearest.indices.tolist(), nearest.labels.tolist()
        ([[0, 1]], [7])

    Source:
        Wu et al.: Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR
        2018, with k = 20 and the temperature used there and in the FAM paper.
    """
    check_float("query", query, "q d")
    check_float("bank", bank, "n d")
    if query.shape[1] != bank.shape[1]:
        raise ValueError(f"query has shape {query.shape}, bank {bank.shape}: dimensions differ")
    if not 1 <= k <= bank.shape[0]:
        raise ValueError(f"k: expected 1 to {bank.shape[0]} (the size of the bank), got {k}")
    if labels is not None:
        _check_labels(labels, bank.shape[0], "bank")
    query, bank = wide(query, bank)
    return _neighbours(query, bank, labels, temperature, k=k)


@partial(jax.jit, static_argnames="k")
def _neighbours(query, bank, labels, temperature, *, k):
    directions = normalize(bank)
    highest = jax.lax.Precision.HIGHEST
    cosines = jnp.matmul(normalize(query), directions.T, precision=highest)
    similarities, indices = jax.lax.top_k(cosines, k)
    kept, predicted = jnp.ones(indices.shape, bool), None
    if labels is not None:
        classes = labels[indices]
        vote = jax.nn.softmax(similarities / temperature)
        votes = jnp.where(classes[:, :, None] == classes[:, None], vote[:, None], 0).sum(axis=2)
        predicted = classes[jnp.arange(len(classes)), jnp.argmax(votes, axis=1)]
        kept = classes == predicted[:, None]
    reference = jnp.mean(directions[indices], axis=1, where=kept[:, :, None])
    return Neighbours(indices, similarities, kept, predicted, reference)


def classifier_rows(
    kernel: Float[AnyArray, "d k"], classes: Int[AnyArray, " b"], contrast: bool = False
) -> Float[Array, "b d"]:
    """A classifier's weights of one class per image: with `dot`, the class' logit less its bias.

        r = W_t,   with contrast   W_t - (1/k) sum_{c != t} W_c,   W_c = kernel[:, c]

    A class outside 0 .. k - 1 gives NaN, so its map is not valid.

    Args:
        kernel: the last linear layer's, in flax' layout; transpose PyTorch's.
        classes: a class for each image.
        contrast: the class against the k - 1 others: +1 for its row, -1/k for each of theirs.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> fam_jax.classifier_rows(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1])).tolist()
        [[2.0, 4.0]]

    Source:
        Zhou et al.: Learning Deep Features for Discriminative Localization, CVPR 2016; the
        contrast is the start of Relevance-CAM, Lee et al., CVPR 2021.
    """
    check_float("kernel", kernel, "d k")
    _check_labels(classes)
    return _classifier_rows(kernel, classes, contrast)


@partial(jax.jit, static_argnums=2)
def _classifier_rows(kernel: Array, classes: Array, contrast: bool) -> Array:
    rows = (wide(kernel)[0] if contrast else jnp.asarray(kernel)).T
    if contrast:
        rows = rows - (jnp.sum(rows, axis=0, keepdims=True) - rows) / kernel.shape[1]
    return rows.at[classes].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def _check_labels(labels: Any, count: int | None = None, of: str = "") -> None:
    check_plain("labels", labels)
    if not (isinstance(labels, AnyArray) and jnp.issubdtype(labels.dtype, jnp.integer)):
        got = getattr(labels, "dtype", type(labels).__name__)
        raise TypeError(f"labels: expected an array of integers, got {got}")
    if labels.ndim != 1 or (count is not None and labels.shape[0] != count):
        expected = f"[{count}], one for each of the {of}" if of else "one axis"
        raise ValueError(f"labels: expected {expected}, got shape {labels.shape}")
