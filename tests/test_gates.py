"""Gates held constant: a transformer without biases is linear, so that maps sum to the score."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import Primitive
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

import fam_jax
from fam_jax._core.gates import frozen
from tests.close import assert_close

pytestmark = pytest.mark.numerics

RNG = np.random.default_rng(0)
C, GRID = 8, (3, 4)
W = {name: RNG.normal(size=(C, C)) / 3 for name in ("q", "k", "v", "up", "down", "head")}
IMAGES, REFERENCES = RNG.normal(size=(2, *GRID, C)), RNG.normal(size=(2, C))


def norm(x, by):
    y = x - x.mean(-1, keepdims=True)
    variance = jnp.square(y).mean(-1, keepdims=True) + 1e-6
    return y * jax.lax.rsqrt(variance) if by == "rsqrt" else y / jnp.sqrt(variance)


def transformer(images, unit=jax.nn.gelu, by="rsqrt", bias=0.0):
    """Two pre-norm blocks, pooled; without biases, if `bias` is 0."""
    w = {name: jnp.asarray(value, images.dtype) for name, value in W.items()}
    x = fam_jax.tap(images.reshape(len(images), -1, C), "input")
    for i in range(2):
        y = fam_jax.tap(norm(x, by), f"norm{i}")
        A = jax.nn.softmax(jnp.einsum("bic,bjc->bij", y @ w["q"], y @ w["k"]))
        x = x + jnp.einsum("bij,bjc->bic", A, y @ w["v"])
        x = fam_jax.tap(
            x + unit(norm(x, by) @ w["up"]) @ w["down"] + bias * w["q"][None, :1], f"block{i}"
        )
    return norm(x, by).mean(1) @ w["head"]


LAYERS = "input", "block0", "block1"  # nothing goes around these
UNITS = {
    "gelu": partial(jax.nn.gelu, approximate=False),
    "tanh gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
}


def maps(network, images, references, gates="frozen", layers=LAYERS):
    encode = fam_jax.capture(network, at=layers, tokens=fam_jax.TokenGrid(0, GRID), gates=gates)
    encodings = encode(images)
    return [fam_jax.decomposition()(enc, references) for enc in encodings], encodings


@pytest.mark.double
@pytest.mark.parametrize("by", ["rsqrt", "sqrt"])
@pytest.mark.parametrize("unit", UNITS)
def test_at_every_layer_the_map_sums_to_the_score(unit, by):
    with jax.enable_x64(True):
        images, references = jnp.asarray(IMAGES), jnp.asarray(REFERENCES)
        out, encodings = maps(partial(transformer, unit=UNITS[unit], by=by), images, references)
        score = fam_jax.cosine.score(encodings[0].embeddings, references)
        for heat in out:
            assert_close(heat.sum((1, 2)), score, np.abs(heat).sum((1, 2)), 1e-10)


@pytest.mark.double
def test_what_biases_add_is_missing():
    """The rest of the score is the biases' part: they enter as constants."""
    with jax.enable_x64(True):
        images, references = jnp.asarray(IMAGES), jnp.asarray(REFERENCES)
        heats, encodings = maps(partial(transformer, bias=0.1), images, references)
        score = fam_jax.cosine.score(encodings[0].embeddings, references)
        parts = [score - heat.sum((1, 2)) for heat in heats]
        assert float(abs(parts[0]).min()) > 1e-3
        assert float(abs(parts[-1]).max()) < 1e-6, "no bias is behind the last block"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_forward_pass_is_the_same_bit_by_bit(dtype):
    images = jnp.asarray(IMAGES, dtype)
    free, held = (
        fam_jax.capture(transformer, at="block0", tokens=(0, GRID), gates=gates)(images)
        for gates in ("free", "frozen")
    )
    np.testing.assert_array_equal(free.embeddings, held.embeddings)
    np.testing.assert_array_equal(free.activations, held.activations)
    assert not np.array_equal(free.pullback(free.embeddings), held.pullback(held.embeddings))


def test_where_there_are_no_gates_nothing_changes():
    """Convolutions, ReLU and batch norm that is not in training: its denominators are constants."""

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(C, C, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(C, rngs=rngs, use_running_average=True)

        def __call__(self, images):
            return nnx.relu(self.norm(self.conv(images))).mean((1, 2))

    images = jnp.asarray(IMAGES, "float32")
    free, held = (
        fam_jax.capture(Net(nnx.Rngs(0)), at="conv", gates=gates)(images)
        for gates in ("free", "frozen")
    )
    np.testing.assert_array_equal(free.pullback(free.embeddings), held.pullback(held.embeddings))


def attention(x):
    return jax.nn.softmax(x @ x.T) @ x


def on_a_mesh(x):
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
    return jax.shard_map(jax.nn.gelu, mesh=mesh, in_specs=P("d"), out_specs=P("d"))(x)


PROGRAMS = {
    "a compiled function": jax.jit(attention),
    "a checkpointed one": jax.checkpoint(attention),
    "a scan": lambda x: jax.lax.scan(lambda c, w: (attention(c), None), x, jnp.ones(3))[0],
    "a loop": lambda x: jax.lax.fori_loop(0, 3, lambda i, c: attention(c), x),
    "a choice": lambda x: jax.lax.cond(x[0, 0] > 0, attention, jax.nn.gelu, x),
    "a mapped function": jax.vmap(jax.nn.gelu),
    "a mesh": on_a_mesh,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_gates_are_found_inside(name):
    """Of a function that is linear but for its gates, x dy/dx is y."""
    fn, x = PROGRAMS[name], jnp.asarray(RNG.normal(size=(4, 5)), "float32")
    y, tangent = jax.jvp(frozen(fn), (x,), (x,))
    np.testing.assert_array_equal(y, fn(x))
    assert_close(tangent, y)
    assert not np.allclose(jax.jvp(fn, (x,), (x,))[1], y, rtol=1e-2)


def test_a_rule_of_ones_own_is_of_the_gate():
    """A function with its own derivative, such as a stable softmax, is entered."""

    @jax.custom_jvp
    def gate(x):
        return jnp.exp(x)

    gate.defjvp(lambda primals, tangents: (gate(*primals), 1e3 * tangents[0]))
    x = jnp.linspace(0.0, 1.0, 5)
    _, tangent = jax.jvp(frozen(lambda x: x * gate(x)), (x,), (x,))
    assert_close(tangent, x * jnp.exp(x))


@pytest.mark.double
@pytest.mark.parametrize("wrap", [lambda net: net, jax.checkpoint], ids=["plain", "checkpointed"])
def test_derivatives_by_anything_else_are_the_true_ones(wrap):
    """A loss of embeddings or of maps: the gates are constants in the pullback alone."""
    with jax.enable_x64(True):
        images, references = jnp.asarray(IMAGES), jnp.asarray(REFERENCES)

        def network(images):
            return wrap(transformer)(fam_jax.tap(images, "pictures"))

        free, held = (
            fam_jax.capture(network, at="pictures", gates=gates) for gates in ("free", "frozen")
        )

        def loss(encode):
            return jax.grad(lambda images: jnp.square(encode(images).embeddings).sum())(images)

        assert_close(loss(held), loss(free), np.abs(loss(free)), 1e-12)

        def energy(images):
            return jnp.square(fam_jax.decomposition()(held(images), references)).sum()

        check_grads(energy, (images,), order=1, modes=("fwd", "rev"))


@pytest.mark.double
def test_features_go_through_and_so_do_their_derivatives():
    with jax.enable_x64(True):
        images, references = jnp.asarray(IMAGES), jnp.asarray(REFERENCES)
        encode = fam_jax.capture(transformer, at="norm1", tokens=(0, GRID), gates="frozen")

        def energy(images, steps):
            enc = encode.from_features(encode.features(images)) if steps == 2 else encode(images)
            return jnp.square(fam_jax.decomposition()(enc, references)).sum()

        once, twice = (jax.value_and_grad(energy)(images, steps) for steps in (1, 2))
        jax.tree.map(lambda a, b: assert_close(a, b, np.abs(b).max(), 1e-12), twice, once)


def test_a_kernel_that_hides_its_gates_is_refused():
    """As cuDNN's attention does: its gradient would be the free one without a word."""
    kernel = Primitive("dot_product_attention_fwd_wrapper")
    kernel.def_abstract_eval(lambda x: x)

    def network(images):
        return jax.jit(lambda x: kernel.bind(fam_jax.tap(x, "input")))(images).mean((1, 2))

    encode = fam_jax.capture(network, at="input", gates="frozen")
    with pytest.raises(ValueError, match="`dot_product_attention_fwd_wrapper` hides its gates"):
        encode(jnp.asarray(IMAGES, "float32"))


def test_an_unknown_word_is_one_line():
    with pytest.raises(ValueError, match="gates: expected one of free, frozen, got 'fixed'"):
        fam_jax.capture(transformer, at="input", gates="fixed")
