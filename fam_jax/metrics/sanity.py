"""Does a map depend on what it should: on the network's weights, and on the reference?

A map that hardly changes (rank correlation near 1) when weights are shuffled or the reference is
exchanged explains neither; the correlation with `activation_sum` says how much is the image's own.
"""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fam_jax._core.checks import AnyArray, check_float, wide
from fam_jax.metrics._arguments import MAPS, nan_unless_finite
from fam_jax.metrics.drop import pearson


def spearman(a: Float[AnyArray, "b *space"], b: Float[AnyArray, "b *space"]) -> Float[Array, " b"]:
    """The rank correlation of every two maps: Pearson's of their ranks, equal values sharing one.

    0 where a map is constant. Both must have one resolution.

    Examples:
        >>> import jax.numpy as jnp
        >>> from fam_jax.metrics import spearman
        >>> rho = spearman(jnp.array([[[1.0, 2.0, 9.0]]]), jnp.array([[[5.0, 6.0, 7.0]]]))
        >>> round(float(rho[0]), 3)
        1.0
    """
    check_float("a", a, MAPS)
    check_float("b", b, MAPS)
    if a.shape != b.shape:
        raise ValueError(f"b has shape {b.shape}, a {a.shape}: upsample one of them first")
    return _spearman(*wide(a, b))


@jax.jit
def _spearman(a, b):
    return nan_unless_finite(pearson(_ranks(a), _ranks(b)), a, b)


def _ranks(maps: Array) -> Array:
    """Ranks [b, n] from 0; the mean rank for equal values."""
    x = maps.reshape(maps.shape[0], -1)
    index = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)
    x, pixels = jax.lax.sort((x, index), dimension=1, num_keys=1)
    new = jnp.concatenate([jnp.ones_like(x[:, :1], bool), x[:, 1:] != x[:, :-1]], axis=1)
    last = jnp.concatenate([new[:, 1:], jnp.ones_like(new[:, :1])], axis=1)
    # In sorted order, equal values lie between the first and the last of their run.
    start = jax.lax.cummax(jnp.where(new, index, 0), axis=1)
    stop = jax.lax.cummin(jnp.where(last, index, x.shape[1]), axis=1, reverse=True)
    _, total = jax.lax.sort((pixels, start + stop), dimension=1, num_keys=1)
    return total.astype(x.dtype) / 2


def randomised(model: Any, layers: str | tuple[str, ...], key: Array) -> Any:
    """A copy of a flax.nnx model with the parameters of some layers shuffled.

    The entries of every parameter are permuted, so that each keeps its mean, its spread and all
    other moments. A parameter's permutation depends on the key and its path alone: cascading
    randomisation, from the top down, is a loop that names one layer more each time.

    Args:
        model: a `flax.nnx` module; it stays as it is.
        layers: paths as `capture` takes them ("fc", "layer4.2"); all parameters below them.

    Raises:
        ValueError: if there is no such layer (the message lists them), or none has parameters.
        TypeError: if `model` is no flax.nnx module.

    Examples:
        >>> import jax
        >>> from flax import nnx
        >>> from fam_jax.metrics import randomised
        >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        >>> net = nnx.Sequential(model, nnx.relu)
        >>> shuffled = randomised(net, "layers.0", jax.random.key(0))
        >>> bool(abs(shuffled.layers[0].kernel.sum() - model.kernel.sum()) < 1e-6)
        True

    Source: Adebayo et al.: Sanity Checks for Saliency Maps, NeurIPS 2018, who draw anew.
    """
    from flax import nnx

    from fam_jax._core.frameworks.nnx import find

    if not isinstance(model, nnx.Module):
        raise TypeError(f"model: expected a flax.nnx module, got {type(model).__name__}")
    paths = [tuple(path.split(".")) for path in ((layers,) if isinstance(layers, str) else layers)]
    for path in paths:
        find(model, ".".join(path))
    graph, parameters, rest = nnx.split(model, nnx.Param, ...)
    shuffled = set()

    def shuffle(path, parameter):
        name = tuple(map(str, path))
        if not any(name[: len(p)] == p for p in paths):
            return parameter
        shuffled.add(name)
        values = parameter[...]
        own = jax.random.fold_in(key, zlib.crc32(".".join(name).encode()))
        flat = jax.random.permutation(own, values.reshape(-1))
        return parameter.replace(flat.reshape(values.shape))

    parameters = nnx.map_state(shuffle, parameters)
    if not shuffled:
        raise ValueError(f"layers: no parameters in {', '.join('.'.join(p) for p in paths)}")
    return nnx.merge(graph, parameters, rest, copy=True)
