"""`capture` on models of other frameworks, as their users write them.

Keras mixes ranks and types in its own layers, so its cases run with JAX's default promotion.
"""

import contextlib
import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import errors, nnx
from flax import linen as nn

import fam_jax
from tests.close import assert_close
from tests.run_example import run_example

pytestmark = pytest.mark.numerics

os.environ["KERAS_BACKEND"] = "jax"


class Case(NamedTuple):
    """A model, and what its framework itself says of it; `images` are [b, H, W, c]."""

    model: Any  # what `capture` is given
    at: str
    features: Callable  # images -> activations [b, h, w, c], by the layers themselves
    head: Callable  # activations -> embeddings
    whole: Callable  # images -> embeddings, as a user calls the model
    weights: Callable  # () -> the arrays of the user's own model
    layout: str = "NHWC"
    outputs: int = 6  # of `whole`

    def encoder(self):
        return fam_jax.capture(self.model, at=self.at, layout=self.layout)


# ---- flax.linen ----------------------------------------------------------------------------------


class LinenBlock(nn.Module):
    widths: list  # not hashable, as in many published models
    train: bool = False

    @nn.compact
    def __call__(self, x, scale=1.0):
        for width in self.widths:
            x = nn.relu(nn.Conv(width, (3, 3))(x))
        x = nn.BatchNorm(use_running_average=not self.train, name="norm")(x)
        return nn.Dropout(0.5, deterministic=not self.train)(x) * scale


class LinenNet(nn.Module):
    widths: list

    @nn.compact
    def __call__(self, images, flip=False):
        x = nn.remat(LinenBlock)(self.widths, name="block")(images)
        x = LinenBlock([8])(x[:, ::-1] if flip else x)
        return nn.Dense(6, name="fc")(jnp.tanh(x).mean((1, 2)))


class LinenSetup(nn.Module):
    def setup(self):
        self.stages = [nn.Conv(8, (3, 3)) for _ in range(2)]
        self.fc = nn.Dense(6)

    def __call__(self, images):
        return self.fc(self.trunk(images).mean((1, 2)))

    def trunk(self, images):
        return self.stages[1](nn.relu(self.stages[0](images)))

    def pooled(self, images):
        return self.trunk(images).mean((1, 2))


def linen_case(form, at="LinenBlock_0.Conv_0"):
    module = LinenNet([8, 8])
    variables = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    # No zeros and ones; and small, as float32 says little of the slope of a saturated tanh.
    params = jax.tree.map(lambda x: x + 0.01, variables["params"])
    stats = jax.tree.map(lambda x: x + 0.1, variables["batch_stats"])
    variables = {"params": params, "batch_stats": stats}
    flip = form == "apply"

    def block(name, widths, x):
        inner = {"params": params[name], "batch_stats": stats[name]}
        return LinenBlock(widths).apply(inner, x)

    def features(images):
        x = block("block", [8, 8], images)
        return nn.Conv(8, (3, 3)).apply(
            {"params": params["LinenBlock_0"]["Conv_0"]}, x[:, ::-1] if flip else x
        )

    def head(A):
        x = nn.BatchNorm(use_running_average=True).apply(
            {
                "params": params["LinenBlock_0"]["norm"],
                "batch_stats": stats["LinenBlock_0"]["norm"],
            },
            nn.relu(A),
        )
        return nn.Dense(6).apply({"params": params["fc"]}, jnp.tanh(x).mean((1, 2)))

    models = {
        "bound": module.bind(variables),
        "apply": functools.partial(module.apply, variables, flip=True),
    }
    whole = functools.partial(module.apply, variables, flip=flip)
    return Case(models[form], at, features, head, whole, lambda: jax.tree.leaves(variables))


def linen_method():
    module = LinenSetup()
    variables = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    first, second = ({"params": variables["params"][f"stages_{i}"]} for i in range(2))
    return Case(
        module.bind(variables).pooled,
        "stages_1",
        lambda x: nn.Conv(8, (3, 3)).apply(second, nn.relu(nn.Conv(8, (3, 3)).apply(first, x))),
        lambda A: A.mean((1, 2)),
        functools.partial(module.apply, variables, method="pooled"),
        lambda: jax.tree.leaves(variables),
        outputs=8,
    )


# ---- equinox -------------------------------------------------------------------------------------


def equinox_net():
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        stem: eqx.nn.Conv2d
        blocks: list
        fc: eqx.nn.Linear
        norm: eqx.nn.BatchNorm | None
        act: Callable = jax.nn.relu

        def __init__(self, key, norm=None):
            keys = jax.random.split(key, 5)
            self.stem = eqx.nn.Conv2d(3, 8, 3, padding=1, key=keys[0])
            conv = functools.partial(eqx.nn.Conv2d, 8, 8, 3, padding=1)
            layers = (conv(key=keys[2]), eqx.nn.Lambda(jax.nn.relu), eqx.nn.Dropout(0.5, True))
            self.blocks = [conv(key=keys[1]), eqx.nn.Sequential(layers)]
            self.fc = eqx.nn.Linear(8, 6, key=keys[3])
            self.norm = norm

        def __call__(self, image, state=None):  # one image [C, H, W]
            x = self.stem(image)
            if self.norm is not None:
                x, _ = self.norm(x, state)
            for block in self.blocks:
                x = self.act(block(x))
            return self.fc(x.mean((1, 2)))

        def pooled(self, image):
            return self.blocks[0](self.act(self.stem(image))).mean((1, 2))

    class Batched(eqx.Module):
        """Batch statistics live in a state, which is held beside the network."""

        net: Net
        state: eqx.nn.State

        def __call__(self, images):
            run = jax.vmap(self.net, in_axes=(0, None), axis_name="batch")
            return run(images, self.state)

    return eqx, Net, Batched


def first(x):
    return jnp.moveaxis(x, -1, -3)


def last(x):
    return jnp.moveaxis(x, -3, -1)


def equinox_case(form):
    eqx, Net, Batched = equinox_net()
    net = Net(jax.random.key(0))
    stem = jax.vmap(net.stem)
    deep = jax.vmap(lambda x: net.blocks[1].layers[0](jax.nn.relu(net.blocks[0](x))))
    fc = jax.vmap(net.fc)
    weights = lambda: jax.tree.leaves(eqx.filter(net, eqx.is_array))  # noqa: E731

    def case(model, at, features, head, whole=net, outputs=6):
        return Case(
            model,
            at,
            lambda x: last(features(first(x))),
            lambda A: head(first(A)),
            lambda x: jax.vmap(whole)(first(x)),
            weights,
            layout="NCHW",
            outputs=outputs,
        )

    def head(x):
        return fc(jax.nn.relu(x).mean((2, 3)))

    if form == "vmap":
        at = "blocks.1.layers.0"
        return case(eqx.filter_vmap(net), at, lambda x: deep(stem(x)), head)
    if form == "method":
        return case(
            eqx.filter_vmap(net.pooled),
            "blocks.0",
            lambda x: jax.vmap(net.blocks[0])(jax.nn.relu(stem(x))),
            lambda x: x.mean((2, 3)),
            net.pooled,
            outputs=8,
        )
    norm, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(8, axis_name="batch", mode="batch")
    net = Net(jax.random.key(0), eqx.nn.inference_mode(norm))
    normed = jax.vmap(lambda x: net.norm(net.stem(x), state)[0])
    return case(
        Batched(net, state),
        "net.blocks.1.layers.0",
        lambda x: deep(normed(x)),
        head,
        functools.partial(net, state=state),
    )


# ---- Keras ---------------------------------------------------------------------------------------


def keras_layers(dtype=None):
    keras = pytest.importorskip("keras")
    L = keras.layers
    keras.utils.set_random_seed(0)
    return keras, {
        "stem": L.Conv2D(8, 3, padding="same", name="stem", dtype=dtype),
        "norm": L.BatchNormalization(name="norm", dtype=dtype),
        "drop": L.Dropout(0.5, name="drop", dtype=dtype),
        "conv": L.Conv2D(8, 3, padding="same", activation="tanh", name="conv", dtype=dtype),
        "pool": L.GlobalAveragePooling2D(name="pool", dtype=dtype),
        "fc": L.Dense(6, name="fc", dtype=dtype),
    }


def keras_case(form):
    keras, layers = keras_layers()
    shape = (None, None, 3)
    order = list(layers.values())
    if form == "sequential":
        model = keras.Sequential([keras.Input(shape), *order])
    elif form == "functional":
        first_ = inputs = keras.Input(shape)
        for layer in order[:4]:
            first_ = layer(first_)
        backbone = keras.Model(inputs, first_, name="backbone")
        outer = keras.Input(shape)
        model = keras.Model(outer, order[5](order[4](backbone(outer))))
    else:

        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.parts = order

            def call(self, x, training=False):
                for part in self.parts:
                    drop = {"training": training} if part.name in ("norm", "drop") else {}
                    x = part(x, **drop)
                return x

        model = Net()
        model(np.zeros((1, 8, 8, 3), np.float32))
    rng = np.random.default_rng(0)
    model.set_weights([w.value + rng.uniform(0, 0.2, w.shape) for w in model.weights])
    frozen = [[w.value for w in layer.weights] for layer in order]

    def run(begin, end):  # with the weights as they are now
        def call(x):
            for layer, weights in list(zip(order, frozen, strict=True))[begin:end]:
                if layer.name != "drop":
                    x, _ = layer.stateless_call(
                        weights[: len(layer.trainable_variables)],
                        weights[len(layer.trainable_variables) :],
                        x,
                    )
            return x

        return call

    return Case(
        functools.partial(model, training=False) if form == "subclassed" else model,
        "backbone.conv" if form == "functional" else "conv",
        run(0, 4),
        run(4, 6),
        model,
        lambda: [w.value for w in model.weights],
    )


CASES = {
    "linen-bound": lambda: linen_case("bound"),
    "linen-apply": lambda: linen_case("apply", at="LinenBlock_0/Conv_0"),
    "linen-method": linen_method,
    "equinox-vmap": lambda: equinox_case("vmap"),
    "equinox-method": lambda: equinox_case("method"),
    "equinox-state": lambda: equinox_case("state"),
    "keras-functional": lambda: keras_case("functional"),
    "keras-sequential": lambda: keras_case("sequential"),
    "keras-subclassed": lambda: keras_case("subclassed"),
}
LEAVES = {
    "linen-method": 6,
    "linen-bound": 16,
    "equinox-vmap": 8,
    "equinox-state": 13,
    "keras-functional": 11,
}


each_framework = pytest.mark.parametrize(
    "name", ["linen-bound", "equinox-state", "keras-functional"]
)


@contextlib.contextmanager
def promotion(name):
    if not name.startswith("keras"):
        yield
        return
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(params=CASES)
def name(request):
    with promotion(request.param):
        yield request.param


@functools.cache  # no test may change a model: that is what is tested
def make(name):
    return CASES[name]()


@pytest.fixture
def case(name):
    return make(name)


@pytest.fixture
def images():
    return jax.random.normal(jax.random.key(1), (2, 8, 12, 3))


def test_an_encoding_is_what_the_framework_itself_computes(case, images):
    v = jax.random.normal(jax.random.key(2), (2, case.outputs))

    @jax.jit
    def captured(encode, images):
        enc = encode(images)
        return enc.activations, enc.embeddings, enc.pullback(v)

    @jax.jit
    def by_itself(images):
        A = case.features(images)
        return A, case.whole(images), jax.vjp(case.head, A)[1](v)[0]

    found = captured(case.encoder(), images)
    assert found[0].shape == (2, 8, 12, 8)
    for actual, expected in zip(found, by_itself(images), strict=True):
        assert_close(actual, expected)


def test_parameters_are_leaves_and_new_ones_need_no_compilation(name, case, images):
    count = 0

    @jax.jit
    def run(encode, x):
        nonlocal count
        count += 1
        return encode(x).embeddings

    encode = case.encoder()
    leaves = jax.tree.leaves(encode)
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    assert len(leaves) == LEAVES.get(name, len(leaves))
    assert sum(leaf.size for leaf in leaves) >= sum(np.size(w) for w in case.weights())
    half = jax.tree.map(lambda w: w / 2 if jnp.issubdtype(w.dtype, jnp.floating) else w, encode)
    first, second = run(encode, images), run(half, images)
    run(case.encoder(), images)
    assert count == 1
    assert not np.allclose(first, second)
    consts = jax.make_jaxpr(lambda encode, x: encode(x).embeddings)(encode, images).consts
    assert max(map(np.size, consts), default=0) < 20, "parameters must be arguments"


def test_gradients_reach_images_and_parameters(case, images):
    encode = case.encoder()
    slope = jax.jit(jax.grad(lambda x, encode: encode(x).embeddings.sum()))(images, encode)
    by_itself = jax.jit(jax.grad(lambda x: case.head(case.features(x)).sum()))
    assert_close(slope, by_itself(images))
    loss = lambda encode: jnp.square(encode(images).embeddings).sum()  # noqa: E731
    slopes = jax.jit(jax.grad(loss, allow_int=True))(encode)
    reached = [np.any(np.asarray(s)) for s in jax.tree.leaves(slopes) if s.dtype != jax.float0]
    assert sum(reached) >= 4  # kernels and biases of two layers at the least


@each_framework
def test_encoders_can_be_mapped(name, images):
    case = make(name)
    with promotion(name):
        enc = jax.jit(jax.vmap(case.encoder()))(jnp.stack([images, -images]))
        assert_close(enc.activations[1], case.features(-images))
        assert_close(enc.embeddings[0], case.whole(images))


@each_framework
def test_sharded_images_need_no_communication(name):
    mesh = jax.make_mesh((8,), ("batch",))
    shard, everywhere = (jax.NamedSharding(mesh, jax.P(*axes)) for axes in (("batch",), ()))
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 8, 3))
    x, y = jax.device_put(tuple(images), shard)
    encode = make(name).encoder()
    spread = jax.device_put(encode, everywhere)
    with promotion(name):
        run = jax.jit(lambda encode, x, y: fam_jax.explain_pairs(encode, x, y).query_maps)
        compiled = run.lower(spread, x, y).compile()
        expected = fam_jax.explain_pairs(encode, *images).query_maps
    text = compiled.as_text()
    assert not [c for c in ("all-", "collective-permute", "reduce-scatter") if c in text]
    assert_close(compiled(spread, x, y), expected)
    assert np.any(expected)


def test_models_are_left_as_they_were(name, case, images):
    before = [np.array(w) for w in case.weights()]
    encode = case.encoder()
    first, second = encode(images), encode(images)
    np.testing.assert_array_equal(first.embeddings, second.embeddings)
    with pytest.raises((ValueError, TypeError, RuntimeError, errors.FlaxError)):
        encode(images[..., :2])  # two channels where three are expected
    for old, new in zip(before, case.weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert " tap[" not in str(jax.make_jaxpr(case.whole)(images + 1))


@each_framework
def test_half_precision(name, images):
    if name.startswith("keras"):
        keras, layers = keras_layers(dtype="bfloat16")
        model = keras.Sequential([keras.Input((None, None, 3)), *layers.values()])
        encode = fam_jax.capture(model, at="conv")
    else:
        encode = make(name).encoder()
        encode = jax.tree.map(
            lambda w: w.astype(jnp.bfloat16) if w.dtype == jnp.float32 else w, encode
        )

    @jax.jit
    def explained(encode, images):
        enc = encode(images)
        return enc, fam_jax.fam()(enc, enc.embeddings)

    with promotion(name):
        enc, maps = explained(encode, images.astype(jnp.bfloat16))
    assert enc.activations.dtype == enc.embeddings.dtype == jnp.bfloat16
    assert maps.dtype == jnp.float32
    assert np.isfinite(maps).all()
    assert np.any(maps)


PATHS = {
    "linen-bound": ("LinenBlock_0.Conv_7", "LinenBlock_0, block, fc .and within: LinenBlock_0.Con"),
    "linen-method": ("conv9", "stages_0, stages_1"),
    "equinox-vmap": ("blocks.7", r"blocks, fc, stem \(and within: blocks.1, blocks.0"),
    "equinox-state": ("stem", r"net .and within: net.stem"),
    "keras-functional": ("conv", r"backbone, pool, fc \(and within: backbone.conv"),
    "keras-sequential": ("conf", "stem, norm, drop, conv, pool, fc$"),
}


@pytest.mark.parametrize("name", PATHS)
def test_unknown_layers_are_refused_with_those_there_are(name, images):
    path, message = PATHS[name]
    with (
        promotion(name),
        pytest.raises(ValueError, match=f"no layer '{path}'; this model has: {message}"),
    ):
        make(name)._replace(at=path).encoder()(images)


WRONG = {
    "linen-bound": ("fc", r"'fc' gives an array of shape \(2, 6\); a map needs \[batch, height"),
    "equinox-vmap": ("fc", r"'fc' gives an array of shape \(2, 6\); a map needs \[batch, channel"),
    "equinox-state": ("net.norm", "'net.norm' gives a tuple, not one array; take a layer inside"),
    "keras-functional": ("fc", r"'fc' gives an array of shape \(2, 6\); a map needs"),
}


@pytest.mark.parametrize("name", WRONG)
def test_layers_without_a_map_say_what_they_give(name, images):
    at, message = WRONG[name]
    with promotion(name), pytest.raises(ValueError, match=message):
        make(name)._replace(at=at).encoder()(images)


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
    [("conv", "'conv' runs 2 times in one forward pass"), ("pair", "'pair' gives a tuple, not")],
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


def test_a_keras_layer_of_several_outputs_is_refused(images):
    keras, layers = keras_layers()

    class Pair(keras.layers.Layer):
        def call(self, x):
            return x, 2 * x

    inputs = keras.Input((None, None, 3))
    pair = Pair(name="pair")
    model = keras.Model(inputs, layers["pool"](pair(inputs)[1]))
    with pytest.raises(ValueError, match=r"^the layer 'pair' gives a tuple, not one array; take a"):
        fam_jax.capture(model, at="pair")(images)
    assert "call" not in vars(pair)


def test_a_keras_layer_is_as_before_when_the_forward_pass_raises(images):
    keras, layers = keras_layers()

    class Refuses(keras.layers.Layer):
        ready = True

        def call(self, x):
            if not self.ready:
                raise RuntimeError("not today")
            return x

    refuses = Refuses(name="refuses")
    model = keras.Sequential([keras.Input((8, 12, 3)), layers["stem"], refuses, layers["pool"]])
    refuses.ready = False
    attributes = [dict(vars(layer)) for layer in model.layers]
    for at in ("stem", "refuses"):
        with pytest.raises(RuntimeError, match="not today"):
            fam_jax.capture(model, at=at)(images)
    assert [dict(vars(layer)) for layer in model.layers] == attributes


def test_an_unbuilt_keras_model_is_refused():
    keras, layers = keras_layers()
    with pytest.raises(ValueError, match="no weights yet; call it on images once"):
        fam_jax.capture(keras.Sequential(list(layers.values())), at="conv")


def test_a_keras_model_on_another_backend_is_refused(monkeypatch):
    keras, layers = keras_layers()
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    model = keras.Sequential(list(layers.values()))
    with pytest.raises(ValueError, match=r"Keras runs on torch here; set .* KERAS_BACKEND=jax"):
        fam_jax.capture(model, at="conv")


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


def test_keywords_of_a_partial_reach_a_flax_nnx_module(images):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)

        def __call__(self, images, flip=False, gain=1.0):
            x = self.conv(images[:, ::-1] if flip else images)
            return x.mean((1, 2)) * gain

    net = Net(nnx.Rngs(0))
    gain = jnp.float32(3)
    encode = fam_jax.capture(functools.partial(net, flip=True, gain=gain), at="conv")
    assert_close(encode(images).activations, net.conv(images[:, ::-1]))
    assert_close(encode(images).embeddings, net(images, flip=True, gain=gain))
    assert len(jax.tree.leaves(encode)) == 3  # kernel, bias and gain; the flag is static


def test_a_plain_function_needs_no_framework():
    code = """
import sys, jax.numpy as jnp, fam_jax
encode = fam_jax.capture(lambda x: fam_jax.tap(x, "a").mean((1, 2)), at="a")
print(encode(jnp.ones((1, 2, 2, 3))).activations.shape)
print({"flax", "equinox", "keras"} & set(sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == ["(1, 2, 2, 3)", "set()"]


def test_the_example_finds_one_map_in_every_framework(tmp_path, monkeypatch, capsys):
    for package in ("equinox", "keras"):
        pytest.importorskip(package)
    figure = tmp_path / "any_model.png"
    said = run_example(monkeypatch, capsys, "any_model.py", "--out", figure)
    found = re.findall(r"maps (\(.*\))  similarity (\S+)$", said, re.M)
    shapes, scores = zip(*found, strict=True)
    assert len(found) == 5
    assert len(set(shapes)) == 1
    assert np.ptp(np.array(scores, float)) < 2e-4  # rounded to four places
    assert figure.stat().st_size > 10_000
