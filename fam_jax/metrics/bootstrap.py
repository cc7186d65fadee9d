"""A mean with its error: over images, by drawing the same number of them again and again."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fam_jax._core.checks import AnyArray, check_count, check_plain, wide


class Estimate(NamedTuple):
    """A mean over images and its bootstrap standard error, both of a value's shape."""

    mean: Float[Array, "..."]
    error: Float[Array, "..."]


def mean_and_error(values: Float[AnyArray, "n ..."], key: Array, samples: int = 1000) -> Estimate:
    """The mean of a metric over images, and its bootstrap standard error.

        mean_i v_i,   std over samples of mean_i v_n(i),   n(i) drawn with replacement

    Images with a NaN among their values are left out; `left_out` counts them. NaN if all are.

    Args:
        values: a number for each image [n], or a curve [n, ...].
        samples: bootstrap samples, at least 2.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import mean_and_error
        >>> mean, error = mean_and_error(jnp.array([1.0, 3.0, jnp.nan]), jax.random.key(0))
        >>> float(mean), round(float(error), 1)  # sqrt(1 / 2)
        (2.0, 0.7)

    Source: Efron: Bootstrap Methods: Another Look at the Jackknife, 1979.
    """
    _check_values(values)
    check_count("samples", samples)
    if samples < 2:
        raise ValueError(f"samples: expected at least 2, got {samples}")
    return _bootstrap(values, key, samples=samples)


def paired_difference(
    a: Float[AnyArray, "n ..."], b: Float[AnyArray, "n ..."], key: Array, samples: int = 1000
) -> Estimate:
    """The mean of a - b, a metric of two methods on the same images, and its standard error.

    Far smaller than the errors of both means where images differ more than methods do.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import paired_difference
        >>> a = jnp.array([1.0, 5.0, 9.0])
        >>> mean, error = paired_difference(a, a - 0.5, jax.random.key(0))
        >>> float(mean), float(error)
        (0.5, 0.0)
    """
    _check_values(a)
    _check_values(b)
    if a.shape != b.shape:
        raise ValueError(f"b has shape {b.shape}, a {a.shape}: the same images are expected")
    a, b = wide(a, b)
    return mean_and_error(a - b, key, samples)


def left_out(values: Float[AnyArray, "n ..."]) -> Int[Array, ""]:
    """How many images have a NaN among their values.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import left_out
        >>> int(left_out(jnp.array([1.0, jnp.nan])))
        1
    """
    _check_values(values)
    return jnp.sum(jnp.any(jnp.isnan(_rows(values)), axis=1))


def _rows(values: AnyArray) -> Array:
    return jnp.reshape(jnp.asarray(values), (values.shape[0], -1))


@partial(jax.jit, static_argnames="samples")
def _bootstrap(values, key, *, samples):
    (x,) = wide(_rows(values))
    kept = ~jnp.any(jnp.isnan(x), axis=1)
    count = jnp.sum(kept)
    order = jnp.argsort(~kept, stable=True)  # the kept ones first: drawing among them is easy

    def mean(weights):
        total = jnp.sum(jnp.where(kept[:, None], x, 0) * weights[:, None], axis=0)
        return total / count.astype(x.dtype)

    def sample(key):
        drawn = order[jax.random.randint(key, kept.shape, 0, jnp.maximum(count, 1))]
        # As many draws as images are kept; the rest of the static shape is not counted.
        used = (jnp.arange(len(kept)) < count).astype(x.dtype)
        return mean(jnp.zeros(kept.shape, x.dtype).at[drawn].add(used))

    middle = mean(kept.astype(x.dtype))
    # Around the mean, and a sample at a time: neither digits nor memory are lost.
    deviations = jax.lax.map(lambda key: sample(key) - middle, jax.random.split(key, samples))
    error = jnp.std(deviations, axis=0, ddof=1)
    return Estimate(*(jnp.reshape(v, values.shape[1:]) for v in (middle, error)))


def _check_values(values: AnyArray) -> None:
    check_plain("values", values)
    if not isinstance(values, AnyArray) or not jnp.issubdtype(values.dtype, jnp.floating):
        got = getattr(values, "dtype", type(values).__name__)
        raise TypeError(f"values: expected an array of floating-point numbers, got {got}")
    if values.ndim < 1 or values.shape[0] == 0:
        raise ValueError(f"values: expected one for each image, got shape {values.shape}")
