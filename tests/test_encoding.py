"""`capture`, `encoder` and `tap`: one pass, any model, nothing left behind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
from tests.close import assert_close


class Stage(nnx.List):
    def __call__(self, x):
        for block in self:
            x = nnx.relu(block(x))
        return x


class Net(nnx.Module):
    """A small network with stages, batch-norm, dropout and a linear head."""

    def __init__(self, rngs):
        self.conv1 = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.bn1 = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.layer4 = Stage([nnx.Conv(8, 8, (3, 3), rngs=rngs) for _ in range(3)])
        self.branches = nnx.Dict(left=nnx.Conv(8, 4, (1, 1), rngs=rngs))
        self.fc = nnx.Linear(4, 6, rngs=rngs)

    def __call__(self, images):
        x = self.layer4(self.drop(nnx.relu(self.bn1(self.conv1(images)))))
        return self.fc(self.branches["left"](x).mean((1, 2)))

    def features(self, images):
        return self.layer4(self.bn1(self.conv1(images))).mean((1, 2))


class Tokens(nnx.Module):
    """Class token, registers and patches through a linear block: a transformer's shapes."""

    def __init__(self, rngs, prefix=2):
        self.prefix = prefix
        self.blocks = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(2)])

    def __call__(self, images):
        x = images.reshape(images.shape[0], -1, 3)
        x = jnp.pad(x, ((0, 0), (self.prefix, 0), (0, 0)), constant_values=1)
        for block in self.blocks:
            x = x + block(x)
        return x.mean(1)


def network(dtype=np.float32):
    model = Net(nnx.Rngs(0))
    model.eval()
    graph, state = nnx.split(model)
    floats = lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
    return nnx.merge(graph, jax.tree.map(floats, state))


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
    fam_jax.capture(net, at="layer4")(images)
    assert_same(before, net)


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


def test_taps_in_plain_functions(images):
    def embed(x):
        x = fam_jax.tap(jnp.tanh(x), "low")
        return fam_jax.tap(x * 2, "high").mean((1, 2))

    for at, expected in (("low", np.tanh(images)), ("high", 2 * np.tanh(images))):
        enc = fam_jax.capture(embed, at=at)(images)
        assert_close(enc.activations, expected, rtol=1e-6)
    assert_close(embed(images), (2 * np.tanh(images)).mean((1, 2)), relative_to=2, rtol=1e-6)


def test_taps_survive_compilation_vmap_and_remat(images):
    """A tap is part of the program: it is found in functions already compiled, also twice."""
    inner = jax.jit(lambda x: fam_jax.tap(jnp.tanh(x), "a"))
    compiled = jax.jit(lambda x: inner(x).mean((1, 2)))
    compiled(images)
    mapped = jax.vmap(lambda x: fam_jax.tap(jnp.tanh(x), "a").mean((0, 1)))
    remat = lambda x: jax.checkpoint(inner)(x).mean((1, 2))  # noqa: E731
    moved = jax.vmap(lambda x: fam_jax.tap(jnp.tanh(x), "a").mean((0, 1)), in_axes=3)
    for fn in (compiled, compiled, mapped, remat, lambda x: moved(jnp.moveaxis(x, 0, 3))):
        enc = fam_jax.capture(fn, at="a")(images)
        assert_close(enc.activations, np.tanh(images), rtol=1e-6)
        v = jnp.ones_like(enc.embeddings)
        np.testing.assert_allclose(enc.pullback(v), np.full(images.shape, 1 / 96), rtol=1e-6)


def test_parameters_of_a_partial_are_leaves(images):
    def embed(scale, x):
        return fam_jax.tap(x * scale, "a").mean((1, 2))

    encode = fam_jax.capture(jax.tree_util.Partial(embed, jnp.float32(3)), at="a")
    slope = jax.grad(lambda encode: encode(images).embeddings.sum())(encode)
    means = images.mean((1, 2))
    assert_close(jax.tree.leaves(slope)[0], means.sum(), relative_to=images)


def test_token_grid(images):
    model = Tokens(nnx.Rngs(0))
    grid = fam_jax.TokenGrid(prefix=2, shape=(8, 12))
    enc = fam_jax.capture(model, at="blocks.1", tokens=grid)(images)
    assert enc.activations.shape == (2, 8, 12, 3)
    last = fam_jax.capture(model, at="blocks.0", tokens=grid)(images)
    assert_close(last.activations.reshape(2, 96, 3), model.blocks[0](images.reshape(2, 96, 3)))
    assert enc.pullback(enc.embeddings).shape == (2, 8, 12, 3)


def test_square_grids_are_found_from_the_token_count():
    assert fam_jax.TokenGrid(prefix=5).grid(261) == (16, 16)


def test_remade_encoders_share_one_compilation(net, images):
    count = 0

    @jax.jit
    def run(encode, x):
        nonlocal count
        count += 1
        return encode(x).embeddings

    for _ in range(3):
        run(fam_jax.capture(net, at="layer4"), images)
    assert count == 1


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


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda x: x.mean((1, 2)), "met no layer 'a'; it met: none"),
        (lambda x: fam_jax.tap(x, "b").mean((1, 2)), "it met: b"),
        (lambda x: (fam_jax.tap(x, "a") + fam_jax.tap(x, "a")).mean((1, 2)), "runs 2 times"),
        (lambda x: fam_jax.tap(x.mean((1, 2)), "a"), r"\(2, 3\); a map needs \[batch, height"),
        (lambda x: fam_jax.tap(x.reshape(2, -1, 3), "a").mean(1), r"pass tokens=fam_jax.TokenGrid"),
        (lambda x: fam_jax.tap(x, "a"), r"must return embeddings \[2, d\]"),
        (lambda x: (fam_jax.tap(x, "a"), 1), "must return embeddings .* got tuple"),
        (lambda x: fam_jax.tap(x[:1], "a").mean((1, 2)), "must return embeddings"),
        (
            lambda x: jax.lax.scan(
                lambda c, _: (fam_jax.tap(c, "a"), None), x, None, length=2
            )[0].mean((1, 2)),
            "inside `scan`",
        ),
    ],
)  # fmt: skip
def test_functions_that_cannot_be_explained_say_why(fn, message, images):
    with pytest.raises(ValueError, match=message):
        fam_jax.capture(fn, at="a")(images)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (lambda x: x[0], ValueError, r"images: expected an array \[batch height width channels\]"),
        (lambda x: x.astype(jnp.uint8), TypeError, "images: expected floating-point .* got uint8"),
        (lambda x: [1, 2], TypeError, "images: expected an array .* got list"),
    ],
)
def test_wrong_images_are_refused(net, images, bad, error, message, unchecked):
    with pytest.raises(error, match=message):
        fam_jax.capture(net, at="layer4")(bad(images))


def test_tokens_that_do_not_fill_the_grid(images):
    encode = fam_jax.capture(
        Tokens(nnx.Rngs(0)), at="blocks.0", tokens=fam_jax.TokenGrid(prefix=2, shape=(8, 8))
    )
    with pytest.raises(ValueError, match=r"98 tokens less a prefix of 2 do not fill .* 8 x 8"):
        encode(images)


def test_wrong_cotangents_are_refused(net, images):
    enc = fam_jax.capture(net, at="layer4")(images)
    with pytest.raises(ValueError, match=r"expected cotangents \(2, 6\)"):
        enc.pullback(jnp.ones((2, 5)))


@pytest.mark.parametrize("at", ["conv1", "layer4"])
def test_perturbation_costs_nothing(net, images, at):
    """The compiled forward pass through `capture` does the same arithmetic as the model."""
    graph, state = nnx.split(net)
    plain = jax.jit(lambda state, x: nnx.merge(graph, state)(x)).lower(state, images)
    encode = fam_jax.capture(net, at=at)
    tapped = jax.jit(lambda encode, x: encode(x).embeddings).lower(encode, images)
    flops = [p.compile().cost_analysis()["flops"] for p in (plain, tapped)]
    assert flops[1] <= 1.001 * flops[0]
