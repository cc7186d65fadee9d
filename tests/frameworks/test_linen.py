"""`capture` on flax.linen modules: bound ones, lifted ones, keywords, tokens."""

import functools

import jax
import pytest
from flax import linen as nn

import fam_jax
from tests.close import assert_close
from tests.frameworks.linen_models import LinenBlock, LinenNet
from tests.frameworks.models import make

pytestmark = pytest.mark.numerics


class Twice(nn.Module):
    outputs: int = 1

    @nn.compact
    def __call__(self, images):
        conv = nn.Conv(3, (1, 1), name="conv")
        pair = Pair(name="pair")(images)
        return conv(conv(pair[0])).mean((1, 2))


class Pair(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x, x


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("conv", "'conv' runs 2 times in one forward pass"),
        ("pair", "'pair' gives a tuple, in which no array is the map: take one of pair:0"),
    ],
)
def test_linen_layers_that_stand_for_no_single_value(at, message, images):
    variables = Twice().init(jax.random.key(0), images)
    with pytest.raises(ValueError, match=message):
        fam_jax.capture(Twice().bind(variables), at=at)(images)


def test_a_lifted_linen_layer_is_captured_once(images):
    """`nn.remat` runs a layer's call twice under one path; the value is still one."""
    case = make("linen-bound")
    enc = fam_jax.capture(case.model, at="block")(images)
    assert_close(enc.embeddings, case.whole(images))
    variables = case.model.variables
    inner = {kind: tree["block"] for kind, tree in variables.items()}
    assert_close(enc.activations, LinenBlock([8, 8]).apply(inner, images))


def test_keywords_reach_a_bound_linen_module(images):
    bound, apply = make("linen-bound"), make("linen-apply")
    encode = fam_jax.capture(functools.partial(bound.model, flip=True), at=bound.at)
    assert_close(encode(images).embeddings, apply.whole(images))


def test_a_linen_module_without_variables_is_refused(images):
    with pytest.raises(ValueError, match=r"this LinenNet has no variables; pass module.bind"):
        fam_jax.capture(LinenNet([8]), at="block")


def test_linen_tokens(images):
    """A layer of tokens [b, n, c] is captured as the grid of its patches."""

    class Mixer(nn.Module):
        @nn.compact
        def __call__(self, images):
            x = nn.Conv(8, (4, 4), (4, 4), name="patch")(images)
            return nn.Dense(8, name="dense")(x.reshape(x.shape[0], -1, 8)).mean(1)

    variables = Mixer().init(jax.random.key(0), images)
    bound = Mixer().bind(variables)
    with pytest.raises(ValueError, match=r"\(2, 6, 8\); a map needs .* pass tokens=fam_jax.Token"):
        fam_jax.capture(bound, at="dense")(images)
    enc = fam_jax.capture(bound, at="dense", tokens=(0, None))(images)
    assert enc.activations.shape == (2, 2, 3, 8)
