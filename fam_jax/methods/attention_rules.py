"""What attention matrices A [b heads n n] and gradients dA of a score say of each token, [b n].

A row of A belongs to the token that looks, a column to the token that is seen. What is read in the
end is `rows` [b n], how much every row counts: 1 for a class token's alone, or a mean's 1 / n.
"""

from functools import reduce

import jax
import jax.numpy as jnp
from jax import Array

from fam_jax._core.maps import minmax
from fam_jax._core.similarity import normalize
from fam_jax.methods.sums import matmul


def rollout(attentions: tuple[Array, ...], gradients: None, rows: Array, prefix: int) -> Array:
    """The rows of prod_l (mean_h A_l + I) / 2, later layers on the left."""
    mixed = rows[:, None]  # a vector from the last layer to the first: no product of matrices
    for A in reversed(attentions):
        mixed = (matmul(mixed, jnp.mean(A, 1)) + mixed) / 2
    return mixed[:, 0]


def propagate(
    attentions: tuple[Array, ...], gradients: tuple[Array, ...], rows: Array, prefix: int
) -> Array:
    """The rows of R - I, where R <- R + mean_h relu(A dA) R from R = I, layer by layer."""
    start = rows[:, None]
    gained = jnp.zeros_like(start)  # a difference of R and I would lose digits of what is small
    for A, dA in zip(reversed(attentions), reversed(gradients), strict=True):
        gained = gained + matmul(gained + start, jnp.mean(jax.nn.relu(A * dA), 1))
    return gained[:, 0]


def signed_gradient_mean(
    attentions: tuple[Array, ...], gradients: tuple[Array, ...], rows: Array, prefix: int
) -> Array:
    """The mean of dA over heads, looking tokens and layers."""
    return reduce(jnp.add, (jnp.mean(dA, (1, 2)) for dA in gradients)) / len(gradients)


def gradient_mean(
    attentions: tuple[Array, ...], gradients: tuple[Array, ...], rows: Array, prefix: int
) -> Array:
    """The mean of relu(dA) over heads, looking tokens and layers."""
    positive = tuple(jax.nn.relu(dA) for dA in gradients)
    return signed_gradient_mean(attentions, positive, rows, prefix)


def value_gradient(
    values: tuple[Array, Array], gradients: tuple[Array, Array], rows: Array, prefix: int
) -> Array:
    """relu(lambda_i sum_c g_c v_ic), lambda = minmax over patches of cos(q, k_i).

    q, k, v: the layer "qkv", heads side by side; g: gradient of the row's output.
    g v_i is the gradient by the row's attention to i, so v itself is not needed.
    """
    q, k, _ = jnp.split(values[0], 3, axis=-1)
    dA = jnp.sum(gradients[1], 1)
    unit = jax.vmap(normalize)
    near = minmax(matmul(unit(q), unit(k[:, prefix:]).swapaxes(1, 2)))
    patches = jax.nn.relu(matmul(rows[:, None], near * dA[..., prefix:])[:, 0])
    return jnp.pad(patches, ((0, 0), (prefix, 0)))
