"""Ports on meshes: parameters and batch in parts give what one device gives, and move no more.

FSDP spreads parameters over the batch's axis "data", tensor parallelism over "model".
"""

import re
from collections import Counter
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import P
from jax.sharding import AxisType, NamedSharding

import fam_jax
import pretrained_ports
from pretrained_ports.models.cifar_resnet import CifarResNet
from pretrained_ports.models.vit import VisionTransformer
from pretrained_ports.models.vit_variants import VARIANTS
from tests.close import assert_close
from tests.ports.network import filled
from tests.programs import COLLECTIVES

IMAGES = np.random.default_rng(0).normal(size=(2, 8, 16, 16, 3)).astype(np.float32)
ROWS = ("attn.proj.kernel", "mlp.fc2.kernel")  # of products whose columns are spread before


@cache
def model(name, dtype="float32"):
    if name == "resnet":
        return filled(CifarResNet, 8, dtype=dtype)
    variant = VARIANTS["vit-mini-patch8"]._replace(dim=16, depth=2, heads=2, grid=2)
    return filled(VisionTransformer, variant, dtype=dtype)


def encoder(name, dtype="float32"):
    if name == "resnet":
        return fam_jax.capture(model(name, dtype), at="layer3")
    return fam_jax.capture(model(name, dtype), at="blocks.1.norm1", tokens=fam_jax.TokenGrid(1))


def mesh(kind):
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))


def spec(keys, x, layout):
    """Where a parameter lies: its largest axis over "data", its columns or rows over "model"."""
    axes, path = [None] * x.ndim, jax.tree_util.keystr(keys, simple=True, separator=".")
    if x.ndim > 1 and "tensor" in layout:
        axes[0 if path.removesuffix(".value").endswith(ROWS) else -1] = "model"
    if x.ndim > 1 and "fsdp" in layout:
        free = [i for i, n in enumerate(x.shape) if axes[i] is None and n % 4 == 0]
        if free:
            axes[max(free, key=lambda i: x.shape[i])] = "data"
    return P(*axes)


def placed(encode, mesh, layout):
    specs = jax.tree_util.tree_map_with_path(lambda keys, x: spec(keys, x, layout), encode)
    place = lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec))  # noqa: E731
    encode = jax.tree.map(place, encode, specs)
    if layout:
        parts = [x for x in jax.tree.leaves(encode) if not x.sharding.is_fully_replicated]
        assert len(parts) >= 6, "nothing is spread"
    return encode, specs


def everything(encode, x, y):
    """Embeddings, maps, and gradients by the parameters."""

    def loss(encode):
        out = fam_jax.explain_pairs(encode, x, y, fam_jax.decomposition())
        return jnp.sum(jnp.sin(out.query_maps)) + jnp.sum(out.scores), out

    slopes, out = jax.grad(loss, has_aux=True, allow_int=True)(encode)
    return encode(x).embeddings, out.query_maps, out.reference_maps, out.scores, slopes


@cache
def alone(name, dtype):
    return jax.jit(everything)(encoder(name, dtype), *IMAGES.astype(dtype))


def assert_same(found, name, dtype, rtol):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(alone(name, dtype)), strict=True):
        if other.dtype == jax.float0:
            continue
        assert_close(one, other, rtol=rtol)


LAYOUTS = ["fsdp", "tensor", "fsdp, tensor"]


@pytest.mark.parametrize("name", ["vit", "resnet"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_parameters_in_parts(x64, name, layout):
    """On an Auto mesh: nothing has to be said."""
    on = mesh(AxisType.Auto)
    encode, _ = placed(encoder(name, "float64"), on, layout)
    images = jax.device_put(IMAGES.astype(float), NamedSharding(on, P(None, "data")))
    assert_same(jax.jit(everything)(encode, *images), name, "float64", 1e-9)
