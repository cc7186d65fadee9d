"""Baselines that know nothing of the reference: what any method must beat."""

from functools import partial, reduce

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.axes import map_axes
from fam_jax._core.checks import check_key
from fam_jax._core.similarity import Similarity, cosine, normalize
from fam_jax.methods.method import Method
from fam_jax.methods.pulled import pullback_method
from fam_jax.methods.sums import Sum, matmul


def activation_sum(similarity: Similarity = cosine) -> Method:
    """M = sum_k A_k, whatever the reference: what others must beat; see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[3.0, 1.0], [0.0, 3.0]]]]))
        >>> fam_jax.activation_sum()(enc, jnp.array([[1.0, 0.0]])).tolist()
        [[[4.0, 3.0]]]
    """
    return pullback_method(similarity, _zeros, _plain)


def _zeros(similarity: Similarity, z: Array, r: Array) -> Array:
    return jnp.zeros_like(z)


def _plain(G: Array, A: Array) -> Sum:
    return Sum(jnp.sum(A, axis=-1), jnp.sum(jnp.abs(A), axis=map_axes(A)))


def eigen_cam(similarity: Similarity = cosine) -> Method:
    """Eigen-CAM: A, centred, on its first principal component. A baseline blind to the reference.

        M = X v,   X = A - mean_hw A as [h w, c],   v the first eigenvector of X^T X

    The sign of v, which is open, is the one for which the map and sum_k A_k do not correlate
    negatively. A map is zero where A is the same everywhere. Where the two largest eigenvalues
    are equal, v is not unique and there is no derivative. Arguments: see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
        >>> enc = encode(jnp.array([[[[6.0, 1.0], [0.0, 1.0], [0.0, 1.0]]]]))
        >>> fam_jax.eigen_cam()(enc, jnp.ones((1, 2))).round(3).tolist()
        [[[4.0, -2.0, -2.0]]]

    Source: Muhammad and Yeasin: Eigen-CAM, IJCNN 2020 (arXiv 2008.00299).
    """
    return pullback_method(similarity, _zeros, _principal_component)


def _principal_component(G: Array, A: Array) -> Sum:
    X = A.reshape(A.shape[0], -1, A.shape[-1])
    X = X - X[:, :1]  # constant channels become exact zeros, which rounding of a mean would not
    X = X - jnp.mean(X, axis=1, keepdims=True)
    v = jax.vmap(_direction)(X)
    maps = jnp.sum(X * v[:, None, :], axis=-1)
    maps, none = maps.reshape(A.shape[:-1]), jnp.zeros_like(maps[:, 0])
    return Sum(maps, none)  # terms that differ by as much do not cancel


def _direction(X: Array) -> Array:
    """The first right singular vector of X [n, c]; 0 if X is."""
    # The direction does not depend on the scale: squares neither overflow nor vanish.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(X)))
    X = X / jnp.where(largest == 0, 1, largest)
    n, c = X.shape
    if n < c:
        v = normalize(matmul(X.T, _eigenvector(matmul(X, X.T))))
    else:
        v = _eigenvector(matmul(X.T, X))
    # X^T M is a positive multiple of v, so sum_k v_k has the sign of the correlation of M with
    # sum_k A_k.
    return jnp.where(jnp.sum(v) < 0, -v, v)


@jax.custom_jvp
def _eigenvector(C: Array) -> Array:
    """The eigenvector of the largest eigenvalue of a positive semidefinite C [n, n]."""
    return jnp.linalg.eigh(C)[1][:, -1]


@_eigenvector.defjvp
def _eigenvector_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """Dv = (lambda - C)^+ dC v: only the first eigenvalue must be simple; for `eigh` all must."""
    (C,), (dC,) = primals, tangents
    v = _eigenvector(C)
    value = matmul(v, matmul(C, v))
    change = matmul(dC, v)
    # lambda (1 + v v^T) - C is lambda - C but for v itself, where it is lambda and not 0.
    eye = jnp.eye(C.shape[0], dtype=C.dtype)
    gap = jnp.where(value > 0, value * (eye + jnp.outer(v, v)) - C, eye)
    return v, jnp.linalg.solve(gap, change - v * matmul(v, change))


def random_baseline(similarity: Similarity = cosine, *, key: Array | None = None) -> Method:
    """Independent uniform values at every position of the layer's map; see `fam_jax.methods`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import fam_jax
        >>> from fam_jax.methods import random_baseline
        >>> encode = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)))
        >>> random_baseline()(encode(jnp.ones((1, 4, 4, 3))), jnp.ones((1, 3))).shape
        (1, 4, 4)
    """
    return Method(similarity, partial(_random, key=key_or_first(key)))


def key_or_first(key: Array | None) -> Array:
    """The key, checked; that of seed 0 if there is none."""
    if key is None:
        return jax.random.key(0)
    check_key(key)
    return key


def _random(similarity, enc, references, *, key):
    return random_map(key, enc.activations.shape[:-1])


def centre_baseline(similarity: Similarity = cosine) -> Method:
    """A Gaussian in the middle of the picture: see `metrics.centre_gaussian`."""
    return Method(similarity, _centre)


def _centre(similarity, enc, references):
    return centre_gaussian(enc.activations.shape[:-1])


def random_map(key: Array, shape: tuple[int, ...]) -> Float[Array, "b *space"]:
    """Uniform values in [0, 1); take the methods' resolution: upsampled, a random map is smoother.

    Examples:
        >>> import jax
        >>> from fam_jax.metrics import random_map
        >>> random_map(jax.random.key(0), (2, 7, 7)).shape
        (2, 7, 7)
    """
    _check_shape(shape)
    return jax.random.uniform(key, shape, jnp.float32)


def centre_gaussian(shape: tuple[int, ...], sigma: float = 0.25) -> Float[Array, "b *space"]:
    """A Gaussian in the middle, where photographers put things.

        exp(-(y^2 + x^2) / (2 sigma^2))   y, x from the centre, in heights and widths of the map

    Of maps with other axes the sum of squares is over theirs.

    Examples:
        >>> from fam_jax.metrics import centre_gaussian
        >>> [round(v, 3) for v in centre_gaussian((1, 1, 3), sigma=1 / 3)[0, 0].tolist()]
        [0.607, 1.0, 0.607]
    """
    _check_shape(shape)
    if not 0 < sigma < float("inf"):
        raise ValueError(f"sigma: expected a positive number, got {sigma!r}")
    squares = [
        (((jnp.arange(n, dtype=jnp.float32) + 0.5) / n - 0.5) / sigma) ** 2 for n in shape[1:]
    ]
    square = reduce(jnp.add, jnp.meshgrid(*squares, indexing="ij"))
    return jnp.broadcast_to(jnp.exp(-0.5 * square), shape)


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) < 2 or any(side < 1 for side in shape):
        raise ValueError(f"shape: expected (batch, height, width), or other axes, got {shape!r}")
