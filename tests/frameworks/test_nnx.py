"""`capture` on flax.nnx modules: any path, one pass, nothing left behind."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
from tests.close import assert_close
from tests.programs import counted
from tests.toy_network import Stage, network


@pytest.fixture
def net():
    return network()


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype(np.float32)


@pytest.fixture
def wide(x64):
    """The network in float64, where two programs of one formula agree to many digits."""
    return network(np.float64)


@pytest.fixture
def pictures(images):
    return images.astype(np.float64)


apply = jax.jit(lambda graph, state, x: nnx.merge(graph, state)(x), static_argnums=0)


@pytest.mark.parametrize(
    ("at", "channels"),
    [("conv1", 8), ("bn1", 8), ("layer4", 8), ("layer4.1", 8), ("branches.left", 4)],
)
def test_any_module_path(wide, pictures, at, channels):
    enc = fam_jax.capture(wide, at=at)(pictures)
    assert enc.activations.shape == (2, 8, 12, channels)
    assert_close(enc.embeddings, apply(*nnx.split(wide), pictures), rtol=1e-12)


def test_activations_are_the_layer_output(wide, pictures):
    enc = fam_jax.capture(wide, at="bn1")(pictures)
    assert_close(enc.activations, wide.bn1(wide.conv1(pictures)), rtol=1e-12)


def test_pullback_is_the_vjp_of_the_rest_of_the_network(wide, pictures):
    enc = fam_jax.capture(wide, at="layer4")(pictures)
    v = jnp.asarray(np.random.default_rng(1).normal(size=enc.embeddings.shape))
    rest = lambda A: wide.fc(wide.branches["left"](A).mean((1, 2)))  # noqa: E731
    expected = jax.jit(lambda A, v: jax.vjp(rest, A)[1](v)[0])(enc.activations, v)
    assert_close(enc.pullback(v), expected, rtol=1e-12)


def test_a_bound_method_is_a_model_too(wide, pictures):
    enc = fam_jax.capture(wide.features, at="layer4")(pictures)
    assert_close(enc.embeddings, wide.features(pictures), rtol=1e-12)


def snapshot(model):
    states = nnx.state(model, nnx.Param, nnx.BatchStat)
    return [np.array(leaf) for leaf in jax.tree.leaves(states)]


def assert_same(before, model):
    for old, new in zip(before, snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_two_runs_leave_the_model_unchanged(net, images):
    graph, before = nnx.split(net)[0], snapshot(net)
    encode = fam_jax.capture(net, at="layer4")
    first, second = encode(images), encode(images)
    np.testing.assert_array_equal(first.embeddings, second.embeddings)
    assert_same(before, net)
    assert nnx.split(net)[0] == graph
    assert type(net.layer4) is Stage


def test_training_mode_statistics_are_not_written(net, images):
    net.train()
    before = snapshot(net)
    with pytest.warns(UserWarning, match="in training mode"):
        fam_jax.capture(net, at="layer4")(images)
    assert_same(before, net)


class Trained(nnx.Module):
    """Layers that behave otherwise in training, and a call that may overrule their mode."""

    def __init__(self, overrule=False, rate=0.5):
        rngs = nnx.Rngs(0)
        self.conv, self.norm = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.blocks = nnx.List([nnx.Dropout(rate, rngs=rngs) for _ in range(2)])
        self.overrule = overrule

    def __call__(self, images):
        overrule = self.overrule or None
        x = self.norm(self.conv(images), use_running_average=overrule)
        for drop in self.blocks:
            x = drop(x, deterministic=overrule)
        return x.mean((1, 2))


BOTH = r"\(batch statistics in 'norm'; random draws in 'blocks.0' and 1 more\)"


def test_an_encoder_of_a_module_in_training_mode_warns_once(images):
    encode = fam_jax.capture(Trained(), at="conv")
    with pytest.warns(UserWarning, match=BOTH) as warnings:
        encode(images)
    assert len(warnings) == 1
    assert "call model.eval() before capture" in str(warnings[0].message)
    encode(images)  # a warning would be an error
    fam_jax.capture(Trained(), at="conv")(images)
    for use in (encode.features, fam_jax.capture(Trained(), at=("conv", "norm"))):
        with pytest.warns(UserWarning, match=BOTH):
            use(images)


def test_what_is_meant_or_changes_no_map_does_not_warn(images):
    fam_jax.capture(Trained(), at="conv").with_state(images)
    fam_jax.capture(Trained(overrule=True), at="conv")(images)
    model = Trained(rate=0.0)
    model.norm.use_running_average = True
    fam_jax.capture(model, at="conv")(images)
    model = Trained()
    model.eval()
    fam_jax.capture(model, at="conv")(images)


def test_layers_that_a_transformation_writes_back_are_not_taken_for_trained(images):
    class Jitted(Trained):
        @nnx.jit
        def __call__(self, images):
            return super().__call__(images)

    model = Jitted()
    model.eval()
    fam_jax.capture(model, at="conv")(images)


def test_a_forward_pass_that_raises_leaves_the_model_unchanged(net, images):
    graph, before = nnx.split(net)[0], snapshot(net)
    encode = fam_jax.capture(net, at="layer4")
    with pytest.raises((TypeError, ValueError), match="feature dimension"):
        encode(images[..., :2])  # two channels where three are expected
    assert_same(before, net)
    assert nnx.split(net)[0] == graph
    assert encode(images).activations.shape == (2, 8, 12, 8)


def test_an_encoder_does_not_follow_later_updates_of_the_model(net, images):
    encode = fam_jax.capture(net, at="layer4")
    before = encode(images).embeddings
    net.conv1.kernel[...] = 3 * net.conv1.kernel[...]
    np.testing.assert_array_equal(encode(images).embeddings, before)
    assert not np.allclose(fam_jax.capture(net, at="layer4")(images).embeddings, before)


def test_the_encoder_is_a_pytree_of_parameters(net, images):
    encode = fam_jax.capture(net, at="layer4")
    doubled = jax.tree.map(lambda x: 2 * x if jnp.issubdtype(x.dtype, jnp.floating) else x, encode)
    kernel = net.conv1.kernel[...]
    assert any(np.array_equal(leaf, 2 * kernel) for leaf in jax.tree.leaves(doubled))
    jaxpr = jax.make_jaxpr(lambda encode, x: encode(x).embeddings)(encode, images)
    sizes = [np.size(const) for const in jaxpr.consts]
    assert max(sizes, default=0) < 100, "parameters must be arguments, not constants"


def test_remade_encoders_share_one_compilation(net, images):
    run, traces = counted(lambda encode, x: encode(x).embeddings)
    for _ in range(3):
        run(fam_jax.capture(net, at="layer4"), images)
    assert len(traces) == 1


@pytest.mark.parametrize("at", ["conv1", "layer4"])
def test_perturbation_costs_nothing(net, images, at):
    """The compiled forward pass through `capture` does the same arithmetic as the model."""
    graph, state = nnx.split(net)
    plain = jax.jit(lambda state, x: nnx.merge(graph, state)(x)).lower(state, images)
    encode = fam_jax.capture(net, at=at)
    tapped = jax.jit(lambda encode, x: encode(x).embeddings).lower(encode, images)
    flops = [p.compile().cost_analysis()["flops"] for p in (plain, tapped)]
    assert flops[1] <= 1.001 * flops[0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda m: fam_jax.capture(m, at="layer5"),
            ValueError,
            "no layer 'layer5'; this model has: bn1, branches, conv1, drop, fc, layer4",
        ),
        (lambda m: fam_jax.capture(m, at="layer4.7"), ValueError, "no layer 'layer4.7'"),
        (lambda m: fam_jax.capture(m, at="branches"), ValueError, "that is not called"),
        (
            lambda m: fam_jax.capture(m, at=4),
            TypeError,
            "at: expected a layer's name, or several, got int",
        ),
        (lambda m: fam_jax.capture("net", at="x"), TypeError, "model: expected a module or"),
    ],
)
def test_wrong_layers_are_refused_with_the_right_ones(net, call, error, message, unchecked):
    with pytest.raises(error, match=message):
        call(net)


@pytest.mark.numerics
def test_keywords_of_a_partial_reach_a_flax_nnx_module(images):
    class Gained(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)

        def __call__(self, images, flip=False, gain=1.0):
            x = self.conv(images[:, ::-1] if flip else images)
            return x.mean((1, 2)) * gain

    net = Gained(nnx.Rngs(0))
    gain = jnp.float32(3)
    encode = fam_jax.capture(functools.partial(net, flip=True, gain=gain), at="conv")
    assert_close(encode(images).activations, net.conv(images[:, ::-1]))
    assert_close(encode(images).embeddings, net(images, flip=True, gain=gain))
    assert len(jax.tree.leaves(encode)) == 3  # kernel, bias and gain; the flag is static
