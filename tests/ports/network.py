"""A network as a function of its weights and its input, compiled once for every use of it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pretrained_ports.weights.random import randomise


@partial(jax.jit, static_argnums=0)
def _embed(graph, state, x):
    return nnx.merge(graph, state)(x)


@partial(jax.jit, static_argnums=0)
def _one_by_one(graph, state, x):
    return jax.vmap(lambda row: nnx.merge(graph, state)(row[None])[0])(x)


@partial(jax.jit, static_argnums=(0, 3))
def _gradients(graph, state, x, wanted):
    def cubes(state, x):
        return (nnx.merge(graph, state)(x) ** 3).sum()

    return jax.grad(cubes, wanted)(state, x)


def embed(model, x) -> np.ndarray:
    """The embeddings [b d] of a batch."""
    return np.asarray(_embed(*nnx.split(model), x))


def one_by_one(model, x) -> np.ndarray:
    """The same by `jax.vmap` over batches of one: what mixes the images of a batch differs."""
    return np.asarray(_one_by_one(*nnx.split(model), x))


def gradients(model, x) -> dict[str, np.ndarray]:
    """Of the embeddings' cubes, by every parameter and, where they are numbers, by the images.

    The third power, since a norm at the end fixes the sum and the sum of squares.
    """
    wanted = (0, 1) if np.issubdtype(x.dtype, np.floating) else (0,)
    derivatives = _gradients(*nnx.split(model), x, wanted)
    leaves = jax.tree_util.tree_leaves_with_path(derivatives)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def filled(build, *args, dtype="float32", **options):
    """A network with the random weights of `create`, in evaluation mode."""
    options["param_dtype"] = jnp.dtype(dtype)
    model = nnx.eval_shape(lambda: build(*args, **options, rngs=nnx.Rngs(0)))
    randomise(model, 0, dtype)
    model.eval()
    return model


def paths(model) -> set[str]:
    """Where its modules are."""
    return {".".join(map(str, path)) for path, _ in nnx.iter_modules(model)}
