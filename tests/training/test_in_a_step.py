"""`capture` inside a training step: gradients, one forward pass, which statistics a map sees."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
from fam_jax.training import energy_outside
from tests.close import assert_close
from tests.training.toy import MASKS, Net, batch, leaves, numbers

optax = pytest.importorskip("optax", reason="needs the train extra")
METHODS = {
    "fam": fam_jax.fam(),
    "decomposition": fam_jax.decomposition(),
    "grad_cam": fam_jax.grad_cam(norms="free"),
}

warned = pytest.mark.filterwarnings("ignore:model. in training mode:UserWarning")


@pytest.fixture
def x64():
    """Float64, in which two programs of one formula agree to many digits.

    With the usual promotion: flax's batch norm has float32 constants.
    """
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield


def double(size=8):
    """A network and a batch in float64."""
    return Net(dtype=jnp.float64), batch(dtype=np.float64, size=size)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "fam" else pytest.mark.slow) for n in METHODS]
)
def test_first_and_second_derivatives_of_maps_by_the_parameters(name, x64):
    """Through batch norm in training mode and dropout, against differences, in float64."""
    model, (images, references) = double(size=3)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    weights = np.random.default_rng(2).normal(size=(3, 6, 6))

    def of_maps(params):
        enc, _ = fam_jax.capture(nnx.merge(graph, params, rest), at="conv1").with_state(images)
        return jnp.sum(weights * METHODS[name](enc, references))

    way = jax.tree.map(lambda p: np.random.default_rng(3).normal(size=p.shape), params)

    def along(tree):
        return sum(jnp.sum(a * b) for a, b in zip(*map(jax.tree.leaves, (tree, way)), strict=True))

    @jax.jit
    def derivatives(params, step):
        """The first along the way, with its own gradient, `step` further on it."""
        there = jax.tree.map(lambda p, w: p + step * w, params, way)
        slope = lambda params: along(jax.grad(of_maps)(params))  # noqa: E731
        return of_maps(there), jax.grad(of_maps)(there), slope(there), jax.grad(slope)(there)

    _, gradient, slope, second = derivatives(params, 0.0)
    (value, before, *_), (later, after, *_) = (derivatives(params, s) for s in (-1e-5, 1e-5))
    assert_close((later - value) / 2e-5, slope, rtol=1e-6)
    differences = jax.tree.map(lambda a, b: (b - a) / 2e-5, before, after)
    assert_same(jax.tree.leaves(differences), jax.tree.leaves(second), rtol=1e-6)
    for layer in ("conv1", "conv2", "fc"):  # on both sides of the layer
        assert float(jnp.abs(gradient[layer].kernel[...]).max()) > 1e-3


def assert_same(ours, theirs, rtol):
    """Two lists of arrays: random streams exactly, numbers relative to the largest of them all.

    A bias in front of a norm learns from nothing but rounding.
    """
    ours, theirs = (list(map(np.asarray, arrays)) for arrays in (ours, theirs))
    assert [x.dtype for x in ours] == [x.dtype for x in theirs]
    for kind in {x.dtype.kind for x in ours}:
        both = [
            np.concatenate([x.ravel() for x in arrays if x.dtype.kind == kind])
            for arrays in (ours, theirs)
        ]
        assert_close(*both, rtol=rtol if kind == "f" else 0)


def step_with(loss, rate=0.1, dtype=jnp.float32):
    """A jitted step as one writes it, and the model and the optimiser that it is for."""
    model = Net(dtype=dtype)
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


def test_with_state_is_the_call_of_the_model(x64):
    """Embeddings, running statistics and random streams, twice in a row."""
    (called, (images, _)), (captured, _) = double(), double()

    @nnx.jit
    def call(model, images):
        return model(images)

    @nnx.jit
    def capture(model, images):
        encoding, state = fam_jax.capture(model, at="act").with_state(images)
        nnx.update(model, state)
        return encoding.embeddings

    start = leaves(captured, nnx.BatchStat)[0]
    for _ in range(2):
        assert_close(capture(captured, images), call(called, images), rtol=1e-12)
        assert_same(leaves(called), leaves(captured), rtol=1e-12)
    assert not np.allclose(leaves(captured, nnx.BatchStat)[0], start)


def test_several_layers_and_keywords_have_a_state_too(x64):
    model, (images, references) = double()

    @nnx.jit
    def both(model, images, references):
        used = functools.partial(model, scale=2.0)
        (first, last), state = fam_jax.capture(used, at=("conv1", "act")).with_state(images)
        alone, same = fam_jax.capture(model, at="act").with_state(images)
        return first.pullback(references), last.embeddings, alone.embeddings, state, same

    pulled, twice, once, state, same = both(model, images, references)
    assert pulled.shape == (8, 6, 6, 4)
    assert_close(twice, 2 * once, rtol=1e-12)
    assert_same(numbers(state), numbers(same), rtol=1e-12)


@pytest.mark.parametrize("network", [lambda x: fam_jax.tap(x, "x").mean((1, 2)), "partial"])
def test_what_has_no_state_is_told_so(network):
    if network == "partial":
        network = functools.partial(lambda scale, x: fam_jax.tap(x, "x").mean((1, 2)) * scale, 2.0)
    with pytest.raises(TypeError, match=r"with_state: only an encoder of a flax.nnx module"):
        fam_jax.capture(network, at="x").with_state(batch()[0])


def test_a_step_with_a_map_in_it_trains_as_one_without(x64):
    """A map that costs nothing in the loss changes nothing in the training."""
    runs = {}
    for loss in (plain, with_state):
        step, model, optimizer = step_with(loss, dtype=jnp.float64)
        for i in range(3):
            value = step(model, optimizer, *batch(i, np.float64))
        runs[loss] = [np.asarray(value), *leaves(model)]
    assert_same(*runs.values(), rtol=1e-12)


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
        maps = maps_of(model, images, references)
        model.train()
        return float(energy_outside(maps, MASKS).mean())

    before = outside()
    for _ in range(30):
        step(model, optimizer, images, references)
    assert outside() < before - 0.1
    assert step.jitted_fn._cache_size() == 1


def encodings(model, images, at="act"):
    return fam_jax.capture(model, at=at)(images)


@nnx.jit
def maps_of(model, images, references):
    return fam_jax.decomposition()(encodings(model, images), references)


@warned
def test_in_training_mode_a_map_sees_the_statistics_of_its_batch(x64):
    """Above the last norm: the map that running statistics equal to the batch's would give."""
    (model, (images, references)), (again, _) = double(), double()
    model.drop.rate = again.drop.rate = 0.0
    maps = maps_of(model, images, references)

    for norm in (again.norm1, again.norm2):
        norm.momentum = 0.0  # the running statistics become the batch's
    again(images)
    again.eval()
    assert_close(maps_of(again, images, references), maps, rtol=1e-9)

    other = images.at[1:].set(batch(7, np.float64)[0][1:])
    changed = maps_of(model, other, references)[0]
    assert not np.allclose(changed, maps[0], atol=1e-3)
    model.eval()
    alone = maps_of(model, other, references)[0]
    assert_close(maps_of(model, images, references)[0], alone, rtol=1e-9)


@warned
def test_below_a_norm_in_training_mode_the_pullback_reaches_other_images():
    """One image's embedding depends on the whole batch, so its gradient does, too."""
    model, (images, _) = Net(), batch()
    first = jnp.zeros((8, 4)).at[0].set(1.0)
    pull = nnx.jit(lambda model: encodings(model, images, at="conv2").pullback(first))
    reached = {}
    for mode in ("train", "eval"):
        getattr(model, mode)()
        pulled = np.asarray(pull(model))
        reached[mode] = np.flatnonzero(np.abs(pulled).max(axis=(1, 2, 3)) > 1e-7).tolist()
    assert reached == {"train": list(range(8)), "eval": [0]}


@warned
def test_capture_draws_the_dropout_that_the_next_call_will_draw(x64):
    """An encoder leaves the random streams alone; with_state moves them on as a call does."""
    model, (images, _) = double()
    embed = jax.jit(lambda encode: encode(images).embeddings)
    encode = fam_jax.capture(model, at="act")
    np.testing.assert_array_equal(embed(encode), embed(encode))
    assert_close(embed(encode), model(images), rtol=1e-12)
    later = embed(fam_jax.capture(model, at="act"))
    assert not np.allclose(later, embed(encode), atol=1e-3)


def test_on_eight_devices_the_step_gives_the_same_numbers(x64):
    """Batch statistics, map loss and update of a batch spread over devices."""
    mesh = jax.make_mesh((8,), ("batch",))
    spread, everywhere = (jax.NamedSharding(mesh, jax.P(*axes)) for axes in (("batch",), ()))
    values = []
    for sharding in (None, (spread, everywhere)):
        loss = functools.partial(with_state, weight=1.0)
        step, model, optimizer = step_with(loss, dtype=jnp.float64)
        data = batch(dtype=np.float64)
        if sharding:
            data = jax.device_put(data, sharding[0])
            for module in (model, optimizer):
                nnx.update(module, jax.device_put(nnx.state(module), sharding[1]))
        values.append([np.asarray(step(model, optimizer, *data)), *leaves(model)])
    assert_same(*values, rtol=1e-12)
