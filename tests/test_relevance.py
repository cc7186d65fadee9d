"""Relevance is conserved, follows alpha 1, beta 0, and leaves the forward pass as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import fam_jax
import pretrained_ports
from pretrained_ports.models.layers import batch_norm, conv, max_pool
from tests import heads
from tests.close import assert_close
from tests.programs import counted, on_devices

decomposition, relevance_cam = jax.jit(fam_jax.decomposition()), jax.jit(fam_jax.relevance_cam())


class Net(nnx.Module):
    """Every kind of layer that has a rule, or needs none; with biases."""

    def __init__(self, dtype=jnp.float32):
        init = {"rngs": nnx.Rngs(0), "param_dtype": dtype}
        self.conv1 = conv(3, 4, 3, bias=True, **init)
        self.norm = batch_norm(4, **init)
        self.norm.mean[...] = jnp.linspace(-1, 1, 4, dtype=dtype)
        self.norm.bias[...] = jnp.linspace(0.5, -0.5, 4, dtype=dtype)
        self.conv2 = conv(4, 4, 1, bias=True, **init)
        self.linear = nnx.Linear(4, 5, **init)
        for layer in (self.conv1, self.conv2, self.linear):
            layer.bias[...] = jnp.linspace(-0.2, 0.2, layer.bias.shape[0], dtype=dtype)
        self.eval()

    def __call__(self, images):
        x = max_pool(nnx.relu(self.norm(self.conv1(images))), 2, stride=2)
        x = nnx.relu(x + self.conv2(x))
        return self.linear(x.mean((1, 2)))


class Mlp(nnx.Module):
    """Two linear layers with biases on a 1x1 convolution of images [b 2 2 3]."""

    def __init__(self):
        init = {"rngs": nnx.Rngs(0), "param_dtype": jnp.float64}
        self.conv = conv(3, 3, 1, **init)
        self.fc1 = nnx.Linear(12, 7, bias_init=nnx.initializers.normal(0.3), **init)
        self.fc2 = nnx.Linear(7, 5, bias_init=nnx.initializers.normal(0.3), **init)

    def __call__(self, images):
        x = self.conv(images).reshape(images.shape[0], -1)
        return self.fc2(nnx.relu(self.fc1(x)))


def images(b, size=(8, 8), dtype=np.float32):
    return jnp.asarray(np.random.default_rng(1).normal(size=(b, *size, 3)).astype(dtype))


def references(b, d=5, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(2).normal(size=(b, d)).astype(dtype))


def alpha1_beta0(x, kernel, R):
    """Relevance of the inputs of one linear layer by its definition: loops, in NumPy."""
    out = np.zeros_like(x)
    for j in range(kernel.shape[1]):
        total = sum(max(x[i] * kernel[i, j], 0) for i in range(len(x)))
        for i in range(len(x)):
            if total:
                out[i] += max(x[i] * kernel[i, j], 0) / total * R[j]
    return out


def test_two_linear_layers_by_hand(x64):
    """Through ReLU and biases, from activations of both signs."""

    model = Mlp()
    enc = fam_jax.capture(fam_jax.relevance(model), at="conv")(images(2, (2, 2), np.float64))
    r = references(2, dtype=np.float64)
    by_position, weighted = np.zeros((2, 2, 2)), np.zeros((2, 2, 2))
    for n in range(2):
        A, z = np.asarray(enc.activations[n]), np.asarray(enc.embeddings[n])
        assert (A < 0).any()
        assert (A > 0).any()
        w1, b1, w2 = (
            np.asarray(p[...]) for p in (model.fc1.kernel, model.fc1.bias, model.fc2.kernel)
        )
        hidden = np.maximum(A.reshape(-1) @ w1 + b1, 0)
        R = alpha1_beta0(hidden, w2, heads.shares("cosine", z, np.asarray(r[n])))
        R = alpha1_beta0(A.reshape(-1), w1, R).reshape(A.shape)
        by_position[n] = R.sum(-1)
        weighted[n] = A @ R.mean((0, 1))
    assert_close(decomposition(enc, r), by_position, rtol=1e-10)
    assert_close(relevance_cam(enc, r), weighted, rtol=1e-10)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2},
        {"groups": 2, "bias": True},
        {"size": 1, "stride": 2},  # Pointwise
        {"inputs": 256, "outputs": 3},  # Wide
    ],
    ids=["strided", "grouped", "pointwise", "wide"],
)
def test_a_convolution_shares_like_the_linear_layer_that_it_is(options, x64):
    options = {"inputs": 4, "outputs": 6, "size": 3, **options}
    layer = conv(**options, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, options["inputs"])))
    call = lambda x: fam_jax.relevance(layer)(x[None])[0]  # noqa: E731
    y = jax.jit(call)(x)
    W = jax.jit(jax.jacobian(lambda x: layer(x[None])[0]))(x).reshape(y.size, x.size).T
    R = np.random.default_rng(0).normal(size=y.size)
    parts = np.maximum(np.asarray(x).reshape(-1, 1) * W, 0)
    total = parts.sum(0)
    expected = (parts / np.where(total == 0, 1, total)) @ R
    (g,) = jax.jit(lambda x, v: jax.vjp(call, x)[1](v))(x, R.reshape(y.shape) / y)
    assert jnp.isfinite(g).all()
    assert_close((x * g).reshape(-1), expected, rtol=1e-8)


def test_relevance_is_conserved_from_the_embedding_to_every_layer(x64):
    """Through convolutions with biases, batch norms, skips, pooling: M sums to the cosine."""
    encode = fam_jax.capture(fam_jax.relevance(Net(jnp.float64)), at=("conv1", "norm", "conv2"))
    # conv2 is a branch beside a skip: it holds the score only together with it.
    r = references(2, dtype=np.float64)

    @jax.jit
    def explain(x):
        layers = encode(x)
        score = fam_jax.cosine.score(layers[0].embeddings, r)
        return *(fam_jax.decomposition()(enc, r) for enc in layers), score

    *layers, branch, score = explain(images(2, dtype=np.float64))
    for maps in layers:
        assert_close(maps.sum((1, 2)), score, relative_to=maps, rtol=1e-8)
    part = branch.sum((1, 2))
    assert np.abs(part - score).max() > 1e-3 * np.abs(score).max()


@pytest.mark.parametrize("name", ["tiny", "conv4"])
def test_embeddings_are_the_models_and_the_model_is_untouched(name):
    model = pretrained_ports.create(name).model
    before = [(type(layer), layer) for _, layer in nnx.iter_modules(model)]
    arrays = jax.tree.leaves(nnx.state(model))
    copy = fam_jax.relevance(model)
    x = images(1, (32, 32))
    assert_close(nnx.jit(copy)(x), nnx.jit(model)(x))
    assert [(type(layer), layer) for _, layer in nnx.iter_modules(model)] == before
    for layer, array in zip(jax.tree.leaves(nnx.state(copy)), arrays, strict=True):
        assert layer is array, "no array is copied"
    assert any(kind is nnx.Conv for kind, _ in before)
    assert not any(type(layer) is nnx.Conv for _, layer in nnx.iter_modules(copy))


def test_a_pooled_head_gives_fam_with_signed_shares(x64):
    """w_k = share_k / (h w), so Relevance-CAM is FAM without min-max."""
    A = heads.activations(2, 3, 4, 5).astype(np.float64)
    r = references(2, dtype=np.float64)
    enc = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))(A)
    fam = fam_jax.fam(normalize="none")(enc, r)
    assert_close(12 * relevance_cam(enc, r), fam, rtol=1e-10)


@pytest.mark.numerics
def test_jit_vmap_single_images_and_devices_agree():
    """In float32: XLA gathers what a maximum over float64 windows sends back."""
    method, x, r = fam_jax.relevance_cam(), images(8), references(8)
    encode = fam_jax.capture(fam_jax.relevance(Net()), at="norm")
    run = jax.jit(lambda encode, x, r: method(encode(x), r))
    maps = run(encode, x, r)
    assert maps.shape == (8, 8, 8)
    assert maps.any((1, 2)).all()
    one = jax.jit(jax.vmap(lambda x, r: method(encode(x[None]), r[None])[0]))(x, r)
    assert_close(one, maps)
    assert_close(on_devices(run, x, r, shared=(encode,)), maps)


@pytest.mark.numerics
def test_bfloat16_divides_in_float32():
    graph, state = nnx.split(Net(jnp.bfloat16))
    maps = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        model = nnx.merge(graph, jax.tree.map(lambda x, to=dtype: x.astype(to), state))
        enc = fam_jax.capture(fam_jax.relevance(model), at="norm")(images(2).astype(dtype))
        assert enc.activations.dtype == dtype
        maps[dtype] = relevance_cam(enc, references(2))
    exact, rough = maps.values()
    assert exact.dtype == rough.dtype == jnp.float32
    assert np.abs(rough - exact).max() <= 0.06 * np.abs(exact).max()


def test_gradients_by_the_reference_match_finite_differences(x64):
    enc = fam_jax.capture(fam_jax.relevance(Mlp()), at="conv")(images(1, (2, 2), np.float64))
    loss = jax.jit(lambda r: jnp.sum(jnp.sin(fam_jax.relevance_cam()(enc, r))))
    check_grads(loss, (references(1, dtype=np.float64),), order=1, modes=["rev"], rtol=1e-6)


def test_outputs_without_a_positive_contribution_keep_nothing():
    """Zero, not NaN: their relevance has nowhere to go, and the others' is as it was."""

    class Two(nnx.Module):
        def __init__(self):
            self.norm = batch_norm(2, rngs=nnx.Rngs(0), param_dtype=jnp.float32)
            self.linear = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
            self.linear.kernel[...] = jnp.array([[1.0, -1.0], [3.0, -2.0]])
            self.eval()

        def __call__(self, x):
            return self.linear(self.norm(x).mean((1, 2)))

    enc = fam_jax.capture(fam_jax.relevance(Two()), at="norm")(jnp.array([[[[1.0, 1.0], [0, 0]]]]))
    maps = fam_jax.decomposition(fam_jax.dot)(enc, jnp.ones((1, 2)))
    np.testing.assert_allclose(maps, [[[enc.embeddings[0, 0], 0]]], rtol=1e-5)


def test_two_copies_of_a_model_share_a_compilation(x64):
    run, traces = counted(lambda encode, x: encode(x).embeddings)
    model = Mlp()
    for _ in range(2):
        encode = fam_jax.capture(fam_jax.relevance(model), at="conv")
        run(encode, images(1, (2, 2), np.float64))
    assert len(traces) == 1


def test_an_encoding_of_another_reading_is_refused():
    """Plain gradients would weigh the channels; of two plain functions nothing is known."""
    encode, method = fam_jax.capture(Net(), at="norm"), fam_jax.relevance_cam()
    x, r = images(2), references(2)
    plain, made = encode(x), encode(x, method)
    message = r"enc: this method reads the network in another way; encode\(images, method\) does so"
    for call in (
        lambda: method(plain, r),
        lambda: method.pair(made, plain),
        lambda: fam_jax.all_pairs(method)(plain, r),
        lambda: method(encode.from_features(encode.features(x)), r),
        lambda: method(encode.replay(x, plain.activations), r),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    copy = fam_jax.capture(fam_jax.relevance(Net()), at="norm")
    assert_close(method(copy(x), r), method(made, r))
    assert_close(method(copy(x, method), r), method(made, r))


def test_an_encoding_of_a_change_of_ones_own():
    """Which leaves no mark on the layers: the encoding of its method is known by the function."""
    mine = fam_jax.Method(
        fam_jax.cosine, lambda s, enc, r: enc.activations.sum(-1), network=nnx.clone
    )
    encode = fam_jax.capture(Net(), at="norm")
    x, r = images(2), references(2)
    assert mine(encode(x, mine), r).shape == (2, 8, 8)
    for other in (encode(x), encode(x, fam_jax.relevance_cam())):
        with pytest.raises(ValueError, match="reads the network in another way"):
            mine(other, r)


def test_wrong_models_are_refused():
    with pytest.raises(TypeError, match=r"model: expected a flax\.nnx module, got function"):
        fam_jax.relevance(lambda images: images)
    with pytest.raises(ValueError, match="LayerNorm has no nnx"):
        fam_jax.relevance(nnx.LayerNorm(3, rngs=nnx.Rngs(0)))
