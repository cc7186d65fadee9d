"""Do the values of a map add up to what it explains?"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.axes import map_axes
from fam_jax._core.checks import AnyArray, check_float, wide
from fam_jax.metrics._arguments import MAPS, check_batch


def completeness_error(
    maps: Float[AnyArray, "b *space"], scores: Float[AnyArray, " b"]
) -> Float[Array, " b"]:
    """How far the sum of a map is from the score it explains: |sum_ij M_ij - s|.

    For methods that promise the two are equal, as `decomposition` does for a linear head.

    Args:
        maps: at their own resolution; upsampling changes the sum.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import completeness_error
        >>> completeness_error(jnp.array([[[0.5, 0.75]]]), jnp.array([1.0])).tolist()
        [0.25]
    """
    check_float("maps", maps, MAPS)
    check_float("scores", scores, "batch")
    check_batch("maps", maps, scores=scores)
    maps, scores = wide(maps, scores)
    return jnp.abs(jnp.sum(maps, axis=map_axes(maps)) - scores)
