"""Eigen-CAM: the direction in which the activations of an image vary most.

X    = A - mean_hw A                  [h w, c]
M    = X v,  v the first eigenvector of X^T X, ||v|| = 1, sum_k v_k >= 0
"""

import jax
import jax.numpy as jnp
from jax import Array

from fam_jax._core.similarity import Similarity, as_similarity, cosine, normalize
from fam_jax.methods.method import Method
from fam_jax.methods.sums import Sum


def eigen_cam(similarity: Similarity = cosine) -> Method:
    """Eigen-CAM: A, centred, on its first principal component. A baseline blind to the reference.

        M = X v,   X = A - mean_hw A as [h w, c],   v the first eigenvector of X^T X

    The sign of v, which is open, is the one for which the map and sum_k A_k do not correlate
    negatively. A map is zero where A is the same everywhere. Where the two largest eigenvalues
    are equal, v is not unique and there is no derivative.

    Args:
        similarity: only the score that is reported beside the map.

    Returns:
        A `Method`, (enc, references [b, d]) -> raw maps [b, h, w].

    Raises:
        TypeError: if `similarity` is none.

    Example:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[6.0, 1.0], [0.0, 1.0], [0.0, 1.0]]]]))
        >>> fam_jax.eigen_cam()(enc, jnp.ones((1, 2))).round(3).tolist()
        [[[4.0, -2.0, -2.0]]]

    Source:
        Muhammad and Yeasin: Eigen-CAM, IJCNN 2020 (arXiv 2008.00299).
    """
    return Method(as_similarity(similarity), _zeros, _principal_component)


def _zeros(similarity: Similarity, z: Array, r: Array) -> Array:
    return jnp.zeros_like(z)


def _principal_component(G: Array, A: Array) -> Sum:
    b, h, w, c = A.shape
    X = A.reshape(b, h * w, c)
    X = X - X[:, :1]  # constant channels become exact zeros, which rounding of a mean would not
    X = X - jnp.mean(X, axis=1, keepdims=True)
    v = jax.vmap(_direction)(X)
    maps = jnp.sum(X * v[:, None, :], axis=-1).reshape(b, h, w)
    return Sum(maps, jnp.zeros_like(maps[:, 0, 0]))  # terms that differ by as much do not cancel


def _direction(X: Array) -> Array:
    """The first right singular vector of X [n, c]; 0 if X is."""
    # The direction does not depend on the scale: squares neither overflow nor vanish.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(X)))
    X = X / jnp.where(largest == 0, 1, largest)
    n, c = X.shape
    if n < c:
        v = normalize(_matmul(X.T, _eigenvector(_matmul(X, X.T))))
    else:
        v = _eigenvector(_matmul(X.T, X))
    # X^T M is a positive multiple of v, so sum_k v_k has the sign of the correlation of M with
    # sum_k A_k.
    return jnp.where(jnp.sum(v) < 0, -v, v)


def _matmul(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


@jax.custom_jvp
def _eigenvector(C: Array) -> Array:
    """The eigenvector of the largest eigenvalue of a positive semidefinite C [n, n]."""
    return jnp.linalg.eigh(C)[1][:, -1]


@_eigenvector.defjvp
def _eigenvector_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """Dv = (lambda - C)^+ dC v: needs a gap to the second eigenvalue only.

    The derivative of `eigh` needs every eigenvalue to be simple; here most of them are often 0.
    """
    (C,), (dC,) = primals, tangents
    v = _eigenvector(C)
    value = _matmul(v, _matmul(C, v))
    change = _matmul(dC, v)
    # lambda (1 + v v^T) - C is lambda - C but for v itself, where it is lambda and not 0.
    eye = jnp.eye(C.shape[0], dtype=C.dtype)
    gap = jnp.where(value > 0, value * (eye + jnp.outer(v, v)) - C, eye)
    return v, jnp.linalg.solve(gap, change - v * _matmul(v, change))
