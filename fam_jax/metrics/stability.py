"""Does a map stay where it is when the image hardly changes?"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.axes import map_axes
from fam_jax._core.checks import AnyArray, check_count, check_float, wide
from fam_jax.metrics._arguments import IMAGES, check_between, nan_unless_finite
from fam_jax.metrics.drop import as_explanation, maps_of


def max_sensitivity(
    explain: Callable,
    images: Float[AnyArray, "b *size c"],
    key: Array,
    *,
    radius: float | int = 0.2,
    samples: int = 10,
) -> Float[Array, " b"]:
    """The largest relative change of a map under small noise; small is good.

        max_e ||M(x + e) - M(x)|| / ||M(x)||,   e uniform in [-radius, radius]; 0 where M is 0

    Args:
        radius: of the noise, in units of the preprocessed images.
        samples: noises tried, one after the other.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import max_sensitivity
        >>> constant = lambda images: jnp.ones(images.shape[:3])
        >>> max_sensitivity(constant, jnp.ones((1, 4, 4, 3)), jax.random.key(0)).tolist()
        [0.0]

    Source: Yeh et al.: On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, there
    without the division.
    """
    check_float("images", images, IMAGES)
    check_between("radius", radius, 0, float("inf"))
    check_count("samples", samples)
    return _max_sensitivity(as_explanation(explain), images, key, float(radius), samples=samples)


@partial(jax.jit, static_argnames="samples")
def _max_sensitivity(explain, images, key, radius, *, samples):
    (x,) = wide(images)
    maps = maps_of(explain, jnp.asarray(images))
    radius = jnp.asarray(radius, x.dtype)

    def change(key):
        noise = radius * jax.random.uniform(key, x.shape[1:], x.dtype, -1, 1)
        noisy = maps_of(explain, (x + noise[None]).astype(images.dtype))
        return _norm(noisy - maps)

    largest = jnp.max(jax.lax.map(change, jax.random.split(key, samples)), axis=0)
    norm = _norm(maps)
    value = jnp.where(norm > 0, largest / jnp.where(norm > 0, norm, 1), 0)
    return nan_unless_finite(value, maps)


def _norm(maps: Array) -> Array:
    return jnp.sqrt(jnp.sum(maps * maps, axis=map_axes(maps)))
