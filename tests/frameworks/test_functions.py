"""`capture` on plain functions, channels first among them."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import fam_jax
from tests.close import assert_close

pytestmark = pytest.mark.numerics


def test_channels_first_is_another_name_for_the_same_network(images):
    """Maps and pullback of a channels-first function are those of its channels-last twin."""
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 3, 8))

    def embed(axes, spatial, kernel, x):
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=axes)
        return jnp.tanh(fam_jax.tap(y, "conv")).mean(spatial)

    one = functools.partial(embed, ("NHWC", "HWIO", "NHWC"), (1, 2), kernel)
    two = functools.partial(embed, ("NCHW", "HWIO", "NCHW"), (2, 3), kernel)
    enc = fam_jax.capture(one, at="conv")(images)
    twin = fam_jax.capture(two, at="conv", layout="NCHW")(images)
    jax.tree.map(
        assert_close, (enc.activations, enc.embeddings), (twin.activations, twin.embeddings)
    )
    assert_close(enc.pullback(enc.embeddings), twin.pullback(enc.embeddings))
    assert [leaf.shape for leaf in jax.tree.leaves(fam_jax.capture(one, at="conv"))] == [
        (3, 3, 3, 8)
    ]
    with pytest.raises(ValueError, match="layout: expected one of NHWC, NCHW, got 'CHW'"):
        fam_jax.capture(one, at="conv", layout="CHW")


def test_a_plain_function_needs_no_framework():
    code = """
import sys, jax.numpy as jnp, fam_jax
encode = fam_jax.capture(lambda x: fam_jax.tap(x, "a").mean((1, 2)), at="a")
print(encode(jnp.ones((1, 2, 2, 3))).activations.shape)
print({"flax", "equinox", "keras"} & set(sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == ["(1, 2, 2, 3)", "set()"]
