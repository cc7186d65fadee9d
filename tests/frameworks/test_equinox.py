"""`capture` on Equinox modules: wrappers, what hides a module, layers that are not called."""

import functools

import jax
import jax.numpy as jnp
import pytest

import fam_jax
from tests.close import assert_close
from tests.frameworks.equinox_models import equinox_net
from tests.frameworks.models import make

pytestmark = pytest.mark.numerics


def test_an_equinox_module_hidden_by_jax_says_what_to_take():
    _, Net, _ = equinox_net()
    with pytest.raises(ValueError, match=r"take equinox.filter_vmap in the place of jax.vmap"):
        fam_jax.capture(jax.vmap(Net(jax.random.key(0))), at="stem")


def test_equinox_wrappers_are_looked_through(images):
    eqx, Net, _ = equinox_net()
    case = make("equinox-vmap")
    net = Net(jax.random.key(0))
    held = eqx.filter_vmap(eqx.Partial(net, state=None))
    for model in (eqx.filter_checkpoint(case.model), held):
        enc = fam_jax.capture(model, at=case.at, layout="NCHW")(images)
        assert_close(enc.activations, case.features(images))
    with pytest.raises(ValueError, match="filter_jit hides the module inside it; leave it out"):
        fam_jax.capture(eqx.filter_vmap(eqx.filter_jit(net)), at=case.at)
    with pytest.raises(ValueError, match=r"functools.partial hides .* equinox.Partial"):
        fam_jax.capture(eqx.filter_vmap(functools.partial(net, state=None)), at=case.at)
    tapped = eqx.filter_vmap(lambda x: fam_jax.tap(jnp.tanh(x), "a").mean((0, 1)))
    enc = fam_jax.capture(tapped, at="a")(images)
    assert_close(enc.activations, jnp.tanh(images))

    class Around(eqx.Module):  # as `eqx.module_update_wrapper` makes them: of a function
        layer: eqx.nn.Identity
        __wrapped__: object = eqx.field(static=True)

        def __call__(self, x):
            return self.layer(self.__wrapped__(x)).mean((1, 2))

    around = Around(eqx.nn.Identity(), jnp.tanh)
    assert_close(fam_jax.capture(around, at="layer")(images).activations, jnp.tanh(images))


def test_an_equinox_layer_that_is_not_called_names_what_it_holds():
    eqx, Net, _ = equinox_net()

    class Bag(eqx.Module):
        inner: Net

    class Outer(eqx.Module):
        bag: Bag

        def __call__(self, images):
            return jax.vmap(self.bag.inner)(images)

    outer = Outer(Bag(Net(jax.random.key(0))))
    with pytest.raises(ValueError, match="'bag' is a Bag that is not called; it holds: inner"):
        fam_jax.capture(outer, at="bag")


def test_equinox_modules_serve_as_features_and_head():
    """Functions and flags among a module's fields are no obstacle: only its arrays are leaves."""
    eqx = pytest.importorskip("equinox")
    features = eqx.filter_vmap(eqx.nn.MLP(3, 8, 4, 1, key=jax.random.key(0)))
    mapped = eqx.filter_vmap(eqx.filter_vmap(features))
    encode = fam_jax.encoder(mapped, lambda A: A.mean((1, 2)))
    images = jnp.ones((2, 4, 6, 3))
    assert_close(encode(images).activations, mapped(images))
    assert len(jax.tree.leaves(encode)) == 4


def test_an_equinox_module_in_training_mode_warns_once(images):
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        conv: eqx.nn.Conv2d
        drop: eqx.nn.Dropout
        key: jax.Array

        def __call__(self, image):
            return self.drop(self.conv(image), key=self.key).mean((1, 2))

    def encoder(rate, inference):
        key = jax.random.key(0)
        net = Net(eqx.nn.Conv2d(3, 4, 3, key=key), eqx.nn.Dropout(rate, inference), key)
        return fam_jax.capture(eqx.filter_vmap(net), at="conv", layout="NCHW")

    encode = encoder(0.5, False)
    with pytest.warns(UserWarning, match=r"random draws in 'drop'\).*inference_mode") as warnings:
        encode(images)
    assert len(warnings) == 1
    for quiet in (encode, encoder(0.5, True), encoder(0.0, False)):
        quiet(images)


def test_batch_statistics_of_equinox_warn(images):
    eqx, Net, Batched = equinox_net()
    norm = eqx.nn.BatchNorm(8, "batch", mode="batch")
    model = Batched(Net(jax.random.key(0), norm), eqx.nn.State(norm))
    with pytest.warns(UserWarning, match="batch statistics in 'net.norm'"):
        fam_jax.capture(model, at="net.stem", layout="NCHW")(images)
    fam_jax.capture(eqx.nn.inference_mode(model), at="net.stem", layout="NCHW")(images)
