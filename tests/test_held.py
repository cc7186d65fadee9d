"""What functions hold besides their arguments: a new encoder is of what they hold now."""

import functools
from types import SimpleNamespace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
from fam_jax._core.frameworks.held import held
from tests.programs import counted

W = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
IMAGES = np.random.default_rng(0).uniform(1, 2, (2, 3, 3, 3)).astype(np.float32)
GLOBAL = SimpleNamespace(w=None)
BARE = None


def embed(x, w):
    return fam_jax.tap(x @ w, "a").mean((1, 2))


def names_a_global(x):
    return embed(x, GLOBAL.w)


def names_a_bare_global(x):
    return embed(x, BARE)


def calls_a_function_that_does(x):
    return names_a_bare_global(x)


class Holder:
    def __call__(self, x):
        return self.method(x)

    def method(self, x):
        return embed(x, self.w)


class Slots:
    __slots__ = ("w",)

    def __call__(self, x):
        return embed(x, self.w)


class OnTheClass:
    w = None

    def __call__(self, x):
        return embed(x, self.w)


class Parameters:
    """On the class, behind a property, reached by a name alone."""

    store: ClassVar = {"w": None}

    @property
    def w(self):
        return self.store["w"]

    def __call__(self, x):
        return embed(x, self.w)

    @staticmethod
    def by_name(x):
        return embed(x, Parameters.store["w"])


def holders():
    """Kind -> a function, the same object throughout, and what sets the array it holds."""
    holder, box, w = Holder(), {"nested": [None]}, None

    def set_closure(value):
        nonlocal w
        w = value

    def set_bare(value):
        global BARE
        BARE = value

    by_default = lambda x, box=box: embed(x, box["nested"][0])  # noqa: E731
    slots = Slots()
    in_box = functools.partial(box["nested"].__setitem__, 0)
    return {
        "an object in a closure": (lambda x: embed(x, holder.w), holder.__setattr__),
        "a bound method": (holder.method, holder.__setattr__),
        "an object that is called": (holder, holder.__setattr__),
        "an object with slots": (slots, slots.__setattr__),
        "a class": (OnTheClass(), functools.partial(setattr, OnTheClass)),
        "a container of a class": (Parameters(), Parameters.store.__setitem__),
        "a class that is named": (Parameters.by_name, Parameters.store.__setitem__),
        "a global object": (names_a_global, GLOBAL.__setattr__),
        "a variable of a closure": (lambda x: embed(x, w), lambda name, value: set_closure(value)),
        "a global": (names_a_bare_global, lambda name, value: set_bare(value)),
        "a global of a function it calls": (
            calls_a_function_that_does,
            lambda name, value: set_bare(value),
        ),
        "containers": (lambda x: embed(x, box["nested"][0]), lambda name, value: in_box(value)),
        "a default": (by_default, lambda name, value: in_box(value)),
        "a partial": (functools.partial(Holder.method, holder), holder.__setattr__),
        "a jax partial": (
            jax.tree_util.Partial(lambda x: embed(x, holder.w)),
            holder.__setattr__,
        ),
        "a wrapped function": (
            functools.wraps(embed)(lambda x: holder.method(x)),
            holder.__setattr__,
        ),
    }


@pytest.mark.parametrize("array", [jnp.asarray, np.array], ids=["jax", "numpy"])
@pytest.mark.parametrize("kind", holders())
def test_a_new_encoder_is_of_what_the_function_holds_now(kind, array):
    fn, put = holders()[kind]
    put("w", array(W))
    before = fam_jax.capture(fn, at="a")
    first = before(IMAGES)
    put("w", array(3 * W))
    now = fam_jax.capture(fn, at="a")(IMAGES)
    np.testing.assert_allclose(now.embeddings, 3 * first.embeddings, rtol=1e-5)
    np.testing.assert_allclose(now.activations, 3 * first.activations, rtol=1e-5)
    if array is jnp.asarray:  # the older one stays what it was, for other shapes, too
        np.testing.assert_array_equal(before(IMAGES).embeddings, first.embeddings)
        other = before(np.concatenate([IMAGES, IMAGES]))
        np.testing.assert_allclose(other.embeddings[:2], first.embeddings, rtol=1e-5)


@pytest.mark.parametrize("kind", holders())
def test_arrays_that_a_function_holds_are_leaves(kind):
    """They are arguments of one program, reached by gradients and by `jax.tree.map`."""
    fn, put = holders()[kind]
    run, traces = counted(lambda encode, x: encode(x).embeddings.sum())
    for scale in (1, 2, 3):
        put("w", jnp.asarray(scale * W))
        out = run(fam_jax.capture(fn, at="a"), IMAGES)
        np.testing.assert_allclose(out, scale * (IMAGES @ W).mean((1, 2)).sum(), rtol=1e-5)
    assert len(traces) == 1
    encode = fam_jax.capture(fn, at="a")
    (leaf,) = (leaf for leaf in jax.tree.leaves(encode) if leaf.shape == W.shape)
    np.testing.assert_array_equal(leaf, 3 * W)
    slope = jax.grad(lambda encode: run(encode, IMAGES))(encode)
    (slope,) = (leaf for leaf in jax.tree.leaves(slope) if leaf.shape == W.shape)
    expected = np.broadcast_to(IMAGES.mean((1, 2)).sum(0)[:, None], W.shape)
    np.testing.assert_allclose(slope, expected, rtol=1e-5)
    doubled = jax.tree.map(lambda x: 2 * x, encode)
    np.testing.assert_allclose(run(doubled, IMAGES), 2 * run(encode, IMAGES), rtol=1e-5)


def test_a_numpy_array_changed_in_place():
    w = W.copy()
    fn = lambda x: embed(x, w)  # noqa: E731
    first = fam_jax.capture(fn, at="a")(IMAGES).embeddings
    w *= 3
    np.testing.assert_allclose(fam_jax.capture(fn, at="a")(IMAGES).embeddings, 3 * first, rtol=1e-5)


def test_a_module_that_a_function_holds():
    """A flax module behind a function, whose parameters are updated in place."""
    model = nnx.Linear(3, 4, use_bias=False, rngs=nnx.Rngs(0))
    fn = lambda x: fam_jax.tap(model(x), "a").mean((1, 2))  # noqa: E731
    first = fam_jax.capture(fn, at="a")(IMAGES).embeddings
    model.kernel[...] = 3 * model.kernel[...]
    np.testing.assert_allclose(fam_jax.capture(fn, at="a")(IMAGES).embeddings, 3 * first, rtol=1e-5)


def test_arrays_of_an_outer_trace():
    """An array under `jax.grad` is a tracer while the function is captured."""
    holder = SimpleNamespace(w=None)
    fn = lambda x: embed(x, holder.w)  # noqa: E731

    def loss(w):
        holder.w = w
        return fam_jax.capture(fn, at="a")(IMAGES).embeddings.sum()

    expected = np.broadcast_to(IMAGES.mean((1, 2)).sum(0)[:, None], W.shape)
    for _ in range(2):
        np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(W)), expected, rtol=1e-5)
        np.testing.assert_allclose(jax.jit(jax.grad(loss))(jnp.asarray(W)), expected, rtol=1e-5)


def test_a_counter_is_no_parameter():
    """A function may count its calls: encoders of it still share one compilation."""
    count = 0

    def fn(x):
        nonlocal count
        count += 1
        return embed(x, W)

    for _ in range(3):
        fam_jax.capture(fn, at="a")(IMAGES)
    traced = count
    fam_jax.capture(fn, at="a")(IMAGES)
    assert count == traced


def test_the_two_functions_of_an_encoder_and_watched_layers():
    holder = SimpleNamespace(w=jnp.asarray(W))
    features, head = lambda x: x @ holder.w, lambda A: A.mean((1, 2))
    fn = lambda x: embed(x, holder.w)  # noqa: E731
    for make in (
        lambda: fam_jax.encoder(features, head),
        lambda: fam_jax.capture(fn, at=["a"]),
        lambda: lambda x: fam_jax.explain_pairs(fam_jax.capture(fn, at="a"), x, x, fam_jax.fam()),
    ):
        holder.w = jnp.asarray(W)
        first = jax.tree.leaves(make()(IMAGES))[0]
        holder.w = jnp.asarray(3 * W)
        np.testing.assert_allclose(jax.tree.leaves(make()(IMAGES))[0], 3 * first, rtol=1e-5)


def test_an_encoder_that_a_function_holds_is_its_arrays_and_its_own_equality():
    """It is not searched by its attributes: leaves alone are arrays, and equal ones share."""
    models = [nnx.Conv(3, 4, (1, 1), rngs=nnx.Rngs(seed)) for seed in (0, 1)]
    mean = lambda A: A.mean((1, 2))  # noqa: E731
    encode, other = (fam_jax.encoder(model, mean) for model in models)
    (arrays, values), (_, same) = held([[encode]]), held([[other]])
    assert {id(x) for x in arrays.values()} == {id(x) for x in jax.tree.leaves(encode)}
    assert values == same
    assert values != held([[fam_jax.encoder(models[0], lambda A: A.max((1, 2)))]])[1]
