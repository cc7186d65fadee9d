"""One comparison of what two programs computed: digits are counted from the largest term.

A sum that cancels keeps the rounding of its terms, and how much that is depends on the processor:
digits of a small result say nothing.
"""

import jax
import numpy as np


def assert_close(actual, expected, relative_to=None, rtol=1e-5):
    """|actual - expected| <= rtol max |relative_to|: the terms summed, else `expected` itself.

    Both of one shape, and finite; what is expected to be zero everywhere must be zero.
    """
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    assert np.isfinite(expected).all()
    scale = np.abs(np.asarray(expected if relative_to is None else relative_to, np.float64)).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * scale)


def along(f, u):
    """X -> derivatives of f(x) [n] along u: in reverse mode, of all n in one pass; x, u lists."""
    dot = lambda J, u: J.reshape(len(J), -1) @ u.ravel()  # noqa: E731
    return lambda x: sum(map(dot, jax.jacrev(f)(x), u))


def assert_slopes(f, x, u, rtol=1e-5, atol=1e-7):
    """Derivatives of f(x) [n] along u are central differences; in float64."""
    f, step = jax.jit(f), 1e-6
    ahead, behind = (f([x + t * u for x, u in zip(x, u, strict=True)]) for t in (step, -step))
    slopes = jax.jit(along(f, u))(x)
    np.testing.assert_allclose(slopes, (ahead - behind) / (2 * step), rtol=rtol, atol=atol)
