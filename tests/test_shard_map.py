"""Everything inside `jax.shard_map`, with its check of what varies: each device for itself."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import P

import fam_jax
from fam_jax import training
from fam_jax._core.similarity import gradient
from tests import heads
from tests.close import assert_close
from tests.explained import explained
from tests.perturbation_toy import case as perturbation_case
from tests.test_attention import ENCODE
from tests.test_attention import METHODS as ATTENTION
from tests.test_attention import case as attention_case
from tests.test_methods import METHODS, methods, run
from tests.test_metrics_everywhere import METRICS
from tests.test_metrics_everywhere import case as metrics_case
from tests.test_perturbation_everywhere import PERTURBATIONS

MESH = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
KEY = jax.random.key(0)
HEAD = heads.make("mlp", 3, 4, 6)
A = heads.activations(8, 3, 4, 6)
B = heads.activations(8, 2, 5, 6, seed=2)
R = np.random.default_rng(3).normal(size=(8, 5)).astype(np.float32)


SPREAD = P("batch")


def on_devices(fn, *args, specs=SPREAD, out=SPREAD):
    return jax.jit(jax.shard_map(fn, mesh=MESH, in_specs=specs, out_specs=out))(*args)


def assert_same(actual, expected):
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert np.asarray(other).any(), "nothing to compare"
        assert_close(one, other)


def each(fn, *args):
    assert_same(on_devices(fn, *args), jax.jit(fn)(*args))


def test_the_pullback_is_not_summed_over_the_devices():
    encode = fam_jax.capture(lambda x: fam_jax.tap(x, "a").mean((1, 2)), at="a")
    each(lambda x: (enc := encode(x)).pullback(enc.embeddings), A)
    layers = fam_jax.capture(lambda x: fam_jax.tap(x, "a").mean((1, 2)), at=["a"])
    each(lambda x: (watched := layers.watch(x)).pullback(watched.embeddings), A)


def test_methods():
    each(partial(run, methods(np.float32)), A, R)


@pytest.mark.parametrize("name", ["fam", "decomposition", "grad_cam free", "eigen_cam"])
def test_references_that_every_device_has(name):
    method = METHODS[name](fam_jax.cosine)
    for fn in (
        lambda A, R: fam_jax.all_pairs(method)(HEAD.encode(A), R),
        lambda A, R: fam_jax.explain_all(HEAD.encode, A, R, method),
    ):
        assert_same(on_devices(fn, A, R, specs=(P("batch"), P())), fn(A, R))


@pytest.mark.parametrize("name", ["fam", "decomposition", "grad_cam free", "eigen_cam"])
def test_images_that_every_device_has(name):
    """References are spread: a device's map is of its own reference, not of the sum of all."""
    method = METHODS[name](fam_jax.cosine)

    def own(A, R):
        A = jax.lax.pcast(A, ("batch",), to="varying")
        return fam_jax.all_pairs(method)(HEAD.encode(A), R)

    maps = on_devices(own, A[:1], R, specs=(P(), P("batch")), out=P(None, "batch"))
    assert_same(maps, fam_jax.all_pairs(method)(HEAD.encode(A[:1]), R))


@pytest.mark.parametrize("name", ["fam", "decomposition", "grad_cam free"])
def test_images_that_do_not_vary_as_the_references_do_are_refused(name):
    method = METHODS[name](fam_jax.cosine)
    each_own = lambda A, R: method(HEAD.encode(A), R)  # noqa: E731
    with pytest.raises(ValueError, match=r"encode jax.lax.pcast\(images, \('batch',\), to='vary"):
        on_devices(each_own, A[:1], R, specs=(P(), P("batch")))


def test_the_gradient_of_a_score_is_of_a_devices_own_reference():
    of = jax.jit(lambda z, r: gradient(fam_jax.cosine, z, r))
    slopes = on_devices(of, R[:1], R[::-1], specs=(P(), P("batch")))
    assert_same(slopes, of(R[:1].repeat(8, 0), R[::-1]))
    walk = lambda x, r: explained(fam_jax.lots(steps=2, kernel=1), HEAD.forward, x, r)  # noqa: E731
    maps = on_devices(walk, A[:1], R, specs=(P(), P("batch")))
    assert_same(maps, walk(A[:1].repeat(8, 0), R))


@pytest.mark.parametrize("name", ["fam", "decomposition", "grad_cam free"])
def test_gradients_of_a_loss_on_maps(name):
    """Parameters that every device has get the sum of all devices' gradients, once."""
    method = METHODS[name](fam_jax.cosine)
    weights = jnp.asarray(np.random.default_rng(4).normal(size=(6, 5)), jnp.float32)

    def loss(weights, A, R):
        encode = fam_jax.encoder(lambda x: x * jnp.sum(weights), lambda A: A.mean((1, 2)) @ weights)
        return jnp.sum(jnp.sin(method(encode(A), R)))

    def summed(weights, A, R):
        return jax.lax.psum(loss(weights, A, R), "batch")

    slope = on_devices(
        jax.grad(summed), weights, A, R, specs=(P(), P("batch"), P("batch")), out=P()
    )
    assert_same(slope, jax.grad(loss)(weights, A, R))


def test_pairs():
    methods = (fam_jax.fam(), fam_jax.decomposition(), fam_jax.interaction_cam())
    each(lambda A, B: [fam_jax.explain_pairs(HEAD.encode, A, B, m) for m in methods], A, B)


FUNCTIONS = {
    "fggb": lambda a, b, r: fam_jax.fggb(chunk=2)(a, r),
    "integrated_pair": lambda a, b, r: fam_jax.integrated_position_pairs(
        HEAD.encode, A_of(a), A_of(b), steps=2
    ),
    "nmf_concepts": lambda a, b, r: fam_jax.concepts(a, b, k=2, steps=3),
    "point_to_point": lambda a, b, r: fam_jax.position_pairs(a, b, chunk=2),
    "replay": lambda a, b, r: HEAD.encode.replay(A_of(a), 2 * a.activations).embeddings,
}


def A_of(encoding):  # noqa: N802
    return encoding.activations


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_encodings(name):
    each(lambda A, B, R: FUNCTIONS[name](HEAD.encode(A), HEAD.encode(B), R), A, B, R)


def test_a_network_in_two_steps():
    def two_steps(A, R):
        enc = HEAD.encode.from_features(HEAD.encode.features(A))
        return fam_jax.decomposition()(enc, R), enc.pullback(enc.embeddings)

    each(two_steps, A, R)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_perturbation(name):
    encode, x, r = perturbation_case(b=8)
    each(partial(explained, PERTURBATIONS[name], encode), x, r)


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name):
    each(partial(explained, ATTENTION[name], ENCODE), *attention_case())


def test_metrics():
    each(lambda x: {name: metric(x) for name, metric in METRICS.items()}, metrics_case())


def test_references():
    labels = np.arange(8) % 3
    bank, rows = jnp.asarray(R), jnp.asarray(R.T)
    each(lambda z: fam_jax.neighbours(z, bank, k=3, labels=jnp.asarray(labels)), R)
    each(lambda y: fam_jax.classifier_rows(rows, y, contrast=True), labels)

    def summed(z, y):
        return jax.lax.psum(fam_jax.prototypes(z, y, num_classes=3), "batch")

    expected = sum(fam_jax.prototypes(R[i : i + 1], labels[i : i + 1], 3) for i in range(8))
    assert_same(on_devices(summed, R, labels, out=P()), expected)


def test_maps():
    maps = np.random.default_rng(5).normal(size=(8, 4, 5)).astype(np.float32)
    each(lambda m: fam_jax.rescale(fam_jax.upsample(m, (8, 9))), maps)
    each(lambda m: fam_jax.fuse([m, m[:, ::2]], "max"), maps)


def test_losses():
    maps = np.random.default_rng(5).normal(size=(8, 4, 5)).astype(np.float32)
    masks, boxes = maps > 0.5, np.tile(np.float32([0.5, 0, 3, 4]), (8, 1))
    each(jax.vmap(lambda m, k: training.energy_outside(m[None], k[None])), maps, masks)
    each(jax.vmap(lambda m: training.total_variation(m[None])), maps)
    each(lambda m, b: training.crop(m, b, (3, 3)), maps, boxes)
    each(jax.vmap(lambda m: training.disagreement(m[None], m[None, ::-1])), maps)
