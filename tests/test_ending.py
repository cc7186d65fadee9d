"""A network that ends in a norm, z = v / |v|, is explained by what enters it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import fam_jax
from tests.close import assert_close, assert_slopes

pytestmark = pytest.mark.numerics

RNG = np.random.default_rng(0)
WEIGHTS, IMAGES = RNG.normal(size=(6, 5)), RNG.normal(size=(8, 4, 4, 6))
REFERENCES = RNG.normal(size=(8, 5))


def norm(v, axis=-1):
    return jnp.linalg.norm(v, axis=axis, keepdims=True)


def by_rsqrt(v):
    return v * jax.lax.rsqrt(jnp.sum(jnp.square(v), -1, keepdims=True) + 1e-12)


def by_einsum(v):
    return v / jnp.sqrt(jnp.einsum("bd,bd->b", v, v))[:, None]


def by_sum(v):
    return v / jnp.sum(jnp.abs(v), 1, keepdims=True)


NORMS = {
    "linalg": lambda v: v / norm(v),
    "plus epsilon": lambda v: v / (norm(v, 1) + 1e-12),
    "at least epsilon": lambda v: v / jnp.maximum(norm(v), 1e-12),
    "clipped": lambda v: v / jnp.clip(norm(v), 1e-12),
    "where not zero": lambda v: jnp.where(norm(v) == 0, 0.0, v / norm(v)),
    "rsqrt": by_rsqrt,
    "power": lambda v: v / (v**2).sum(1, keepdims=True) ** 0.5,
    "einsum": by_einsum,
    "one image": jax.vmap(lambda v: v / jnp.linalg.norm(v)),
    "ours": fam_jax.normalize,
    "scaled": lambda v: 3 * fam_jax.normalize(v),
    "absolute values": by_sum,
    "two of them": lambda v: fam_jax.normalize(by_sum(v)),
    "after a relu": lambda v: fam_jax.normalize(jax.nn.relu(v)),
}
OTHERS = {
    "none": lambda v: v,
    "a relu after it": lambda v: jax.nn.relu(fam_jax.normalize(v)),
    "half of v": lambda v: jnp.where(v > 0, v, 0) / norm(v),
    "over the batch": lambda v: v / jnp.linalg.norm(v),
    "far from zero": lambda v: v / (norm(v) + 1.0),
    "times a gate": lambda v: fam_jax.normalize(v) * jax.nn.sigmoid(v[:, :1]),
    "a choice": lambda v: jnp.where(norm(v) == 0, jnp.tanh(v), v / norm(v)),
    "layer norm": lambda v: (v - v.mean(1, keepdims=True)) / v.std(1, keepdims=True),
    "softmax": jax.nn.softmax,
}


def network(end):
    def embed(images):
        return end(fam_jax.tap(images, "a").mean((1, 2)) @ jnp.asarray(WEIGHTS, images.dtype))

    return embed


def arrays(*arrays, dtype="float64"):
    return [jnp.asarray(x, dtype) for x in arrays]


@pytest.mark.double
@pytest.mark.parametrize("whole", [False, True], ids=["", "compiled"])
@pytest.mark.parametrize("name", NORMS)
def test_maps_sum_to_the_score(name, whole):
    with jax.enable_x64(True):
        images, references = arrays(IMAGES, REFERENCES)
        embed = network(NORMS[name])
        enc = fam_jax.capture(jax.jit(embed) if whole else embed, at="a")(images)
        score = fam_jax.cosine.score(enc.embeddings, references)
        assert_close(fam_jax.decomposition()(enc, references).sum((1, 2)), score, rtol=1e-9)


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_else_is_taken_for_one(name):
    (images,) = arrays(IMAGES[:1], dtype="float32")  # a batch of one: shapes tell nothing
    assert fam_jax.capture(network(OTHERS[name]), at="a")(images).held is None


@pytest.mark.double
@pytest.mark.parametrize("name", ["linalg", "ours", "scaled"])
def test_the_pullback_is_the_jacobian_all_the_same(name):
    with jax.enable_x64(True):
        images, references = arrays(IMAGES, REFERENCES)
        embed = network(NORMS[name])
        enc = fam_jax.capture(embed, at="a")(images)
        z, back = jax.vjp(embed, images)
        np.testing.assert_array_equal(enc.embeddings, z)
        assert_close(enc.pullback(references), back(references)[0], rtol=1e-12)


METHODS = {
    "fam": lambda background: fam_jax.fam(),
    "decomposition": lambda background: fam_jax.decomposition(),
    "contrastive": fam_jax.contrastive,
    "grad_cam": lambda background: fam_jax.grad_cam(),
    "grad_cam free": lambda background: fam_jax.grad_cam(norms="free"),
    "relevance_cam": lambda background: fam_jax.relevance_cam(),
}


@pytest.mark.double
@pytest.mark.parametrize("name", METHODS)
def test_maps_are_those_of_the_network_without_it(name):
    """The similarity is blind to length, and so are the maps."""
    with jax.enable_x64(True):
        images, references, background = arrays(IMAGES, REFERENCES, RNG.normal(size=(4, 5)))
        method = METHODS[name](background)
        with_norm, without = (
            method(fam_jax.capture(network(end), at="a")(images), references)
            for end in (NORMS["linalg"], OTHERS["none"])
        )
        if name == "fam":  # its weights are shares, not gradients: a map is as long as z
            with_norm, without = (
                x / jnp.abs(x).sum((1, 2), keepdims=True) for x in (with_norm, without)
            )
        assert_close(with_norm, without, rtol=1e-12)


@pytest.mark.double
def test_attention_is_that_of_the_network_without_it():
    def attending(end):
        def embed(images):
            x = fam_jax.tap(images.reshape(8, 16, 6), "tokens")
            A = fam_jax.tap(jax.nn.softmax(x @ x.swapaxes(1, 2))[:, None], "attn_drop")
            return end((A[:, 0] @ x).mean(1) @ jnp.asarray(WEIGHTS))

        return fam_jax.capture(embed, at="tokens", tokens=(0, (4, 4)))

    with jax.enable_x64(True):
        images, references = arrays(IMAGES, REFERENCES)
        method = fam_jax.le_grad()
        with_norm, without = (
            method(attending(end)(images, method), references)
            for end in (NORMS["linalg"], OTHERS["none"])
        )
        assert_close(with_norm, without, rtol=1e-12)


@pytest.mark.double
def test_the_free_gradient_of_a_product_is_the_true_one():
    """Of z . r with z = v / |v|, which is not blind to the length of z, autodiff is to be had."""
    with jax.enable_x64(True):
        images, references = arrays(IMAGES, REFERENCES)
        embed = network(NORMS["linalg"])
        enc = fam_jax.capture(embed, at="a")(images)
        G = jax.grad(lambda A: jnp.sum(embed(A) * references))(images)
        maps = fam_jax.hires_cam(fam_jax.dot, norms="free")(enc, references)
        assert_close(maps, (G * images).sum(-1), np.abs(G * images).sum(-1), 1e-12)


@pytest.mark.double
def test_pairs_of_positions_sum_to_the_score():
    with jax.enable_x64(True):
        images, references = arrays(IMAGES, IMAGES[::-1])
        encode = fam_jax.capture(network(NORMS["linalg"]), at="a")
        a, b = encode(images), encode(references)
        pairs = fam_jax.position_pairs(a, b)
        score = fam_jax.cosine.score(a.embeddings, b.embeddings)
        assert_close(pairs.sum((1, 2, 3, 4)), score, np.abs(pairs).sum((1, 2, 3, 4)), 1e-12)


@pytest.mark.double
def test_in_two_steps_under_vmap_and_in_derivatives():
    with jax.enable_x64(True):
        images, references = arrays(IMAGES, REFERENCES)
        encode = fam_jax.capture(network(NORMS["ours"]), at="a")

        def maps(images, references):
            return fam_jax.decomposition()(encode(images), references)

        expected = maps(images, references)
        again = encode.from_features(encode.features(images))
        assert_close(fam_jax.decomposition()(again, references), expected, rtol=1e-12)
        mapped = jax.vmap(maps)(images[:, None], references[:, None])[:, 0]
        assert_close(mapped, expected, rtol=1e-12)
        x, u, r = images[:2], arrays(RNG.normal(size=(2, *IMAGES.shape[1:])))[0], references[:2]
        assert_slopes(lambda x: jnp.square(maps(x[0], r)).sum((1, 2)), [x], [u])


def test_sharded_over_devices_by_hand_and_not():
    images, references = arrays(IMAGES, REFERENCES, dtype="float32")
    encode = fam_jax.capture(network(NORMS["ours"]), at="a")

    def maps(images, references):
        return fam_jax.decomposition()(encode(images), references)

    expected = maps(images, references)
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    mapped = jax.shard_map(maps, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    assert_close(mapped(images, references), expected)
    rows = [jax.device_put(x, jax.NamedSharding(mesh, P("d"))) for x in (images, references)]
    assert_close(maps(*rows), expected)


def test_of_bfloat16_and_of_a_zero_vector():
    images, references = arrays(IMAGES, REFERENCES, dtype="bfloat16")
    encode = fam_jax.capture(network(NORMS["ours"]), at="a")
    enc = encode(images)
    maps = fam_jax.decomposition()(enc, references)
    score = fam_jax.cosine.score(enc.embeddings, references)
    assert_close(maps.sum((1, 2)), score, np.abs(maps).sum((1, 2)), 2e-2)
    assert not np.asarray(fam_jax.decomposition()(encode(0 * images), references)).any()
