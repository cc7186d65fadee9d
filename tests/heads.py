"""Four heads from activations to embeddings, and FAM for each in plain float64 NumPy loops."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import jax
import jax.numpy as jnp
import numpy as np

import fam_jax

NAMES = ("gap", "gap_linear", "flatten", "mlp")


@dataclass(frozen=True)
class Head:
    """`forward(A)` in JAX; `embed(a)` and `pull(a, v)` by hand, for one image, in NumPy."""

    forward: Callable
    embed: Callable
    pull: Callable

    @cached_property
    def encode(self):
        return fam_jax.encoder(lambda images: images, self.forward)


@cache
def make(name: str, h: int, w: int, c: int, seed: int = 0) -> Head:
    """One and the same head for one and the same shape, so that compiled programs serve again."""
    rng = np.random.default_rng(seed)
    W1 = rng.normal(size=(c, 6))
    b1, W2 = rng.normal(size=6), rng.normal(size=(6, 5))

    def spread(v):  # the pullback of a mean over positions
        return np.broadcast_to(v / (h * w), (h, w, c))

    def cast(x, like):
        return jnp.asarray(x, like.dtype)

    def mlp(A):
        hidden = jax.nn.relu(A.mean((1, 2)) @ cast(W1, A) + cast(b1, A)[None])
        return hidden @ cast(W2, A)

    def mlp_pull(a, v):
        on = (a.mean((0, 1)) @ W1 + b1) > 0
        return spread(W1 @ (on * (W2 @ v)))

    return {
        "gap": Head(lambda A: A.mean((1, 2)), lambda a: a.mean((0, 1)), lambda a, v: spread(v)),
        "gap_linear": Head(
            lambda A: A.mean((1, 2)) @ cast(W1, A),
            lambda a: a.mean((0, 1)) @ W1,
            lambda a, v: spread(W1 @ v),
        ),
        "flatten": Head(
            lambda A: A.reshape(A.shape[0], -1),
            lambda a: a.reshape(-1),
            lambda a, v: v.reshape(a.shape),
        ),
        "mlp": Head(mlp, lambda a: np.maximum(a.mean((0, 1)) @ W1 + b1, 0) @ W2, mlp_pull),
    }[name]


def activations(b: int, h: int, w: int, c: int, seed: int = 1, signed: bool = False) -> np.ndarray:
    A = np.random.default_rng(seed).normal(size=(b, h, w, c))
    return (A if signed else np.maximum(A, 0)).astype(np.float32)


def shares(name: str, z: np.ndarray, r: np.ndarray) -> np.ndarray:
    """One pair's shares, dimension by dimension."""
    nz, nr = np.sqrt((z * z).sum()), np.sqrt((r * r).sum())
    out = np.empty_like(z)
    for d in range(len(z)):
        out[d] = {
            "cosine": z[d] * r[d] / (nz * nr),
            "dot": z[d] * r[d],
            "euclidean": -((z[d] - r[d]) ** 2),
        }[name]
    return out


def fam_loops(head: Head, A, R, similarity: str = "cosine", normalize: str = "minmax"):
    """FAM by its definition: four loops, nothing shared with the library."""
    A, R = np.asarray(A, np.float64), np.asarray(R, np.float64)
    b, h, w, c = A.shape
    maps = np.zeros((b, h, w))
    for n in range(b):
        weights = shares(similarity, head.embed(A[n]), R[n])
        if normalize == "minmax":
            span = weights.max() - weights.min()
            weights = (weights - weights.min()) / span if span else np.ones_like(weights)
        elif normalize == "relu":
            weights = np.maximum(weights, 0)
        G = head.pull(A[n], weights)
        for k in range(c):
            alpha = G[:, :, k].sum()
            for i in range(h):
                for j in range(w):
                    maps[n, i, j] += alpha * A[n, i, j, k]
    return maps
