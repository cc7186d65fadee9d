"""Non-negative factors of a matrix by multiplicative updates, from a fixed start.

V = W H,   W <- W * (V H^T) / (W H H^T),   H <- H * (W^T V) / (W^T W H)

Lee, Seung: Algorithms for Non-negative Matrix Factorization, NIPS 2000.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.similarity import normalize


def factorise(
    V: Float[Array, "n c"], k: int, steps: int
) -> tuple[Float[Array, "n k"], Float[Array, "k c"]]:
    """V = W H, all non-negative, rows of H of norm 1; zeros for a V of zeros."""
    with jax.default_matmul_precision("highest"):
        size = jnp.max(V)
        V = V / jnp.where(size > 0, size, 1)
        W, H = update(V, *_start(V, k), steps)
    norm = jnp.sqrt(jnp.sum(H * H, axis=1))
    norm = jnp.where(norm > 0, norm, 1)
    return W * (norm * size)[None], H / norm[:, None]


def update(
    V: Float[Array, "n c"], W: Float[Array, "n k"], H: Float[Array, "k c"], steps: int
) -> tuple[Float[Array, "n k"], Float[Array, "k c"]]:
    """Multiplicative updates of W, then H: ||V - W H|| never grows."""

    def times(x, above, below):
        return x * jnp.where(below > 0, above / jnp.where(below > 0, below, 1), 0)

    def step(_, factors):
        W, H = factors
        W = times(W, V @ H.T, W @ (H @ H.T))
        return W, times(H, W.T @ V, (W.T @ W) @ H)

    return jax.lax.fori_loop(0, steps, step, (W, H))


def _start(V: Array, k: int) -> tuple[Array, Array]:
    """The k rows of V that are farthest from being sums of those before, and every row's share."""
    rest, picked = V, []
    for _ in range(k):
        square = jnp.sum(rest * rest, axis=1)
        row = jnp.argmax(square) == jnp.arange(V.shape[0])
        picked.append(jnp.sum(jnp.where(row[:, None], V, 0), axis=0))
        aside = jnp.sum(jnp.where(row[:, None], rest, 0), axis=0)
        length = jnp.max(square)
        along = (rest @ aside) / jnp.where(length > 0, length, 1)
        rest = rest - jnp.outer(along, aside)
    # A little of the mean, since what is zero at the start stays zero.
    H = jnp.stack(picked) + 0.1 * jnp.mean(V, axis=0, keepdims=True)
    H = normalize(H)
    return V @ H.T, H
