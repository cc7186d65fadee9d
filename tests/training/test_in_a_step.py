"""`capture` inside a training step: gradients, one forward pass, which statistics a map sees."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import fam_jax
from fam_jax.training import energy_outside
from tests.training.toy import MASKS, Net, batch, leaves

optax = pytest.importorskip("optax", reason="needs the train extra")

METHODS = {
    "fam": fam_jax.fam(),
    "decomposition": fam_jax.decomposition(),
    "grad_cam": fam_jax.grad_cam(norms="free"),
}


@pytest.mark.parametrize("name", METHODS)
def test_first_and_second_derivatives_of_maps_by_the_parameters(name, x64):
    """Through batch norm in training mode and dropout, against differences, in float64."""
    model, (images, references) = Net(dtype=jnp.float64), batch(dtype=np.float64, size=3)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    weights = np.random.default_rng(2).normal(size=(3, 6, 6))

    @jax.jit
    def of_maps(params):
        enc = fam_jax.capture(nnx.merge(graph, params, rest), at="conv1")(images)
        return jnp.sum(weights * METHODS[name](enc, references))

    with jax.numpy_dtype_promotion("standard"):  # flax's batch norm has float32 constants
        check_grads(of_maps, (params,), order=2, modes=("rev",), eps=1e-5, rtol=1e-6, atol=1e-8)
        gradient = jax.grad(of_maps)(params)
    for layer in ("conv1", "conv2", "fc"):  # on both sides of the layer
        assert float(jnp.abs(gradient[layer].kernel[...]).max()) > 1e-3


def step_with(loss, rate=0.1):
    """A jitted step as one writes it, and the model and the optimiser that it is for."""
    model = Net()
    optimizer = nnx.Optimizer(model, optax.sgd(rate), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, images, references):
        value, gradient = nnx.value_and_grad(loss)(model, images, references)
        optimizer.update(model, gradient)
        return value

    return step, model, optimizer


def apart(z, references):
    return jnp.mean(jnp.sum((z - references) ** 2, axis=1))


def plain(model, images, references):
    return apart(model(images), references)


def with_state(model, images, references, weight=0.0):
    encoding, state = fam_jax.capture(model, at="act").with_state(images)
    nnx.update(model, state)
    maps = fam_jax.decomposition()(encoding, references)
    return apart(encoding.embeddings, references) + weight * energy_outside(maps, MASKS).mean()


def test_with_state_is_the_call_of_the_model():
    """Embeddings, running statistics and random streams, bit by bit, twice in a row."""
    called, seen, (images, _) = Net(), Net(), batch()
    for _ in range(2):
        z = called(images)
        encoding, state = fam_jax.capture(seen, at="act").with_state(images)
        nnx.update(seen, state)
        np.testing.assert_allclose(encoding.embeddings, z, rtol=1e-5, atol=1e-6)
        for a, b in zip(leaves(called), leaves(seen), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    assert not np.allclose(leaves(seen, nnx.BatchStat)[0], leaves(Net(), nnx.BatchStat)[0])


def test_several_layers_and_keywords_have_a_state_too():
    model, (images, references) = Net(), batch()
    used = functools.partial(model, scale=2.0)
    (first, last), state = fam_jax.capture(used, at=("conv1", "act")).with_state(images)
    alone, same = fam_jax.capture(model, at="act").with_state(images)
    np.testing.assert_allclose(last.embeddings, 2 * alone.embeddings, rtol=1e-5, atol=1e-6)
    assert first.pullback(references).shape == (8, 6, 6, 4)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(same), strict=True):
        np.testing.assert_allclose(
            *(jax.random.key_data(x) if x.dtype.name.startswith("key") else x for x in (a, b)),
            rtol=1e-6,
        )


@pytest.mark.parametrize("network", [lambda x: fam_jax.tap(x, "x").mean((1, 2)), "partial"])
def test_what_has_no_state_is_told_so(network):
    if network == "partial":
        network = functools.partial(lambda scale, x: fam_jax.tap(x, "x").mean((1, 2)) * scale, 2.0)
    with pytest.raises(TypeError, match=r"with_state: only an encoder of a flax.nnx module"):
        fam_jax.capture(network, at="x").with_state(batch()[0])


def test_a_step_with_a_map_in_it_trains_as_one_without():
    """A map that costs nothing in the loss changes nothing in the training."""
    runs = {}
    for loss in (plain, with_state):
        step, model, optimizer = step_with(loss)
        for i in range(3):
            value = step(model, optimizer, *batch(i))
        runs[loss] = [np.asarray(value), *leaves(model)]
    for a, b in zip(*runs.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_one_forward_pass_serves_the_task_the_map_and_the_statistics():
    """A map loss at the last layer adds next to nothing to the step's arithmetic."""
    flops = []
    for loss in (plain, functools.partial(with_state, weight=1.0)):
        step, model, optimizer = step_with(loss)
        compiled = step.lower(model, optimizer, *batch()).compile()
        flops.append(compiled.cost_analysis()["flops"])
    # This network is so small that losses and optimiser count; of Conv-4 it is 0.01 %.
    assert flops[1] < 1.25 * flops[0]


def test_a_map_loss_moves_the_maps_and_compiles_once():
    step, model, optimizer = step_with(functools.partial(with_state, weight=3.0), rate=0.3)
    images, references = batch()

    def outside():
        model.eval()
        maps = fam_jax.decomposition()(fam_jax.capture(model, at="act")(images), references)
        model.train()
        return float(energy_outside(maps, MASKS).mean())

    before = outside()
    for _ in range(30):
        step(model, optimizer, images, references)
    assert outside() < before - 0.1
    assert step.jitted_fn._cache_size() == 1


@pytest.mark.parametrize("similarity", ["dot", "margin", "cosine"])
@pytest.mark.parametrize("silent", [0.0, 1e-36, 1e-20, 1e-9])
def test_a_channel_that_is_all_but_silent_spoils_no_gradient(similarity, silent):
    """The map of a pooled head sums to the score, so its gradient is the score's."""
    rng = np.random.default_rng(0)
    r, bank = (jnp.asarray(rng.normal(size=(n, 5)), jnp.float32) for n in (1, 3))
    chosen = {
        "dot": fam_jax.dot, "margin": fam_jax.margin(fam_jax.dot, bank), "cosine": fam_jax.cosine,
    }[similarity]  # fmt: skip
    encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
    A = jnp.asarray(rng.random((1, 4, 4, 5)), jnp.float32).at[..., 2].multiply(silent)

    def summed(A):
        return jnp.sum(fam_jax.decomposition(chosen)(encode(A), r))

    def score(A):
        return jnp.sum(chosen.score(A.mean((1, 2)), r))

    np.testing.assert_allclose(summed(A), score(A), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(summed)(A), jax.grad(score)(A), rtol=1e-4, atol=1e-6)


def test_a_small_embedding_has_the_map_of_a_large_one():
    """Its squares vanish in float32, its cosine does not."""
    encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
    A = jnp.asarray(np.random.default_rng(0).random((1, 4, 4, 5)), jnp.float32)
    method = fam_jax.decomposition()
    maps = [method(encode(scale * A), jnp.ones((1, 5))) for scale in (1.0, 1e-22)]
    np.testing.assert_allclose(maps[1], maps[0], rtol=1e-5)


def encodings(model, images, at="act"):
    return fam_jax.capture(model, at=at)(images)


def test_in_training_mode_a_map_sees_the_statistics_of_its_batch(monkeypatch):
    """Above the last norm: the map that running statistics equal to the batch's would give."""
    model, (images, references) = Net(), batch()
    model.drop.rate = 0.0
    method = fam_jax.decomposition()
    maps = method(encodings(model, images), references)

    again = Net()
    again.drop.rate = 0.0
    for norm in (again.norm1, again.norm2):
        norm.momentum = 0.0  # the running statistics become the batch's
    again(images)
    again.eval()
    np.testing.assert_allclose(
        method(encodings(again, images), references), maps, rtol=1e-4, atol=1e-5
    )

    other = images.at[1:].set(batch(7)[0][1:])
    changed = method(encodings(model, other), references)[0]
    assert not np.allclose(changed, maps[0], atol=1e-3)
    model.eval()
    alone = method(encodings(model, other), references)[0]
    np.testing.assert_allclose(
        method(encodings(model, images), references)[0], alone, rtol=1e-4, atol=1e-5
    )


def test_below_a_norm_in_training_mode_the_pullback_reaches_other_images():
    """One image's embedding depends on the whole batch, so its gradient does, too."""
    model, (images, _) = Net(), batch()
    first = jnp.zeros((8, 4)).at[0].set(1.0)
    reached = {}
    for mode in ("train", "eval"):
        getattr(model, mode)()
        pulled = encodings(model, images, at="conv2").pullback(first)
        reached[mode] = np.flatnonzero(np.abs(pulled).max(axis=(1, 2, 3)) > 1e-7).tolist()
    assert reached == {"train": list(range(8)), "eval": [0]}


def test_capture_draws_the_dropout_that_the_next_call_will_draw():
    """An encoder leaves the random streams alone; with_state moves them on as a call does."""
    model, (images, _) = Net(), batch()
    encode = fam_jax.capture(model, at="act")
    np.testing.assert_array_equal(encode(images).embeddings, encode(images).embeddings)
    np.testing.assert_allclose(encode(images).embeddings, model(images), rtol=1e-5, atol=1e-6)
    later = fam_jax.capture(model, at="act")(images).embeddings
    assert not np.allclose(later, encode(images).embeddings, atol=1e-3)


def test_on_eight_devices_the_step_gives_the_same_numbers():
    """Batch statistics, map loss and update of a batch spread over devices."""
    mesh = jax.make_mesh((8,), ("batch",))
    spread, everywhere = (jax.NamedSharding(mesh, jax.P(*axes)) for axes in (("batch",), ()))
    values = []
    for sharding in (None, (spread, everywhere)):
        step, model, optimizer = step_with(functools.partial(with_state, weight=1.0))
        data = batch()
        if sharding:
            data = jax.device_put(data, sharding[0])
            for module in (model, optimizer):
                nnx.update(module, jax.device_put(nnx.state(module), sharding[1]))
        values.append([np.asarray(step(model, optimizer, *data)), *leaves(model)])
    for a, b in zip(*values, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
