"""What attention matrices A [b heads n n] and gradients dA of a score say of each token, [b n].

A row of A belongs to the token that looks, a column to the token that is seen. What is read in the
end is the row of the class token, the first; without tokens before the patches, the rows' mean.
"""

from functools import reduce

import jax
import jax.numpy as jnp
from jax import Array

from fam_jax._core.maps import minmax
from fam_jax._core.similarity import normalize
from fam_jax.methods.sums import matmul


def rollout(attentions: tuple[Array, ...], gradients: None, prefix: int) -> Array:
    """The row of prod_l (mean_h A_l + I) / 2, later layers on the left."""
    first, *later = (jnp.mean(A, 1) for A in attentions)
    R = (first + jnp.eye(first.shape[1], dtype=first.dtype)[None]) / 2
    for A in later:
        R = (matmul(A, R) + R) / 2
    return _row(R, prefix)


def propagate(attentions: tuple[Array, ...], gradients: tuple[Array, ...], prefix: int) -> Array:
    """The row of R - I, where R <- R + mean_h relu(A dA) R from R = I, layer by layer."""
    pairs = zip(attentions, gradients, strict=True)
    first, *later = (jnp.mean(jax.nn.relu(A * dA), 1) for A, dA in pairs)
    gained = first  # R - I: a difference of the two would lose digits of what is small
    for C in later:
        gained = gained + matmul(C, gained) + C
    return _row(gained, prefix)


def gradient_mean(
    attentions: tuple[Array, ...], gradients: tuple[Array, ...], prefix: int
) -> Array:
    """The mean of relu(dA) over heads, looking tokens and layers."""
    means = (jnp.mean(jax.nn.relu(dA), (1, 2)) for dA in gradients)
    return reduce(jnp.add, means) / len(gradients)


def value_gradient(values: tuple[Array, Array], gradients: tuple[Array, Array], prefix: int):
    """relu(lambda_i sum_c g_c v_ic), lambda = minmax over patches of cos(q, k_i).

    q, k, v: the layer "qkv", heads side by side; g: gradient of the row's output.
    g v_i is the gradient by the row's attention to i, so v itself is not needed.
    """
    q, k, _ = jnp.split(values[0], 3, axis=-1)
    dA = jnp.sum(gradients[1], 1)
    rows = slice(0, 1 if prefix else None)
    unit = jax.vmap(normalize)
    cosines = matmul(unit(q[:, rows]), unit(k).swapaxes(1, 2))
    near = minmax(cosines[..., prefix:])
    patches = jax.nn.relu(jnp.mean(near * dA[:, rows, prefix:], 1))
    return jnp.pad(patches, ((0, 0), (prefix, 0)))


def _row(R: Array, prefix: int) -> Array:
    return R[:, 0] if prefix else jnp.mean(R, 1)
