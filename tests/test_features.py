"""A network cut at a layer and joined again is the network, row by row."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import fam_jax
import pretrained_ports
from pretrained_ports.models.vit import VisionTransformer
from pretrained_ports.models.vit_variants import VARIANTS
from tests.close import assert_close

ROWS = np.array([2, 0, 1, 2])


def wide(model):
    """The model in float64, where two programs of one network agree to many digits."""
    graph, state = nnx.split(model)
    floats = lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
    return nnx.merge(graph, jax.tree.map(floats, state))


def pictures(*shape):
    return np.random.default_rng(0).normal(size=shape)


def transformer():
    variant = VARIANTS["vit-tiny-patch16"]._replace(patch=4, dim=24, depth=2, heads=2, grid=2)
    return VisionTransformer(variant, rngs=nnx.Rngs(0))


# A layer that ends a block, one inside a block with a shortcut around it, and tokens that are
# normalised beside a residual stream.
MODELS = [
    (lambda: pretrained_ports.create("conv4").model, "block3", None),
    (lambda: pretrained_ports.create("cifar-resnet20").model, "layer2.1.conv1", None),
    (transformer, "blocks.1.norm1", fam_jax.TokenGrid(prefix=1)),
]


def check(encode, images):
    encoding = jax.jit(lambda encode, v, enc: (enc.activations, enc.embeddings, enc.pullback(v)))
    features = encode.features(images)
    whole, joined = encode(images), encode.from_features(jax.tree.map(lambda x: x[ROWS], features))
    v = np.cos(np.arange(whole.embeddings.size)).reshape(whole.embeddings.shape)
    for expected, actual in zip(
        encoding(encode, v, whole), encoding(encode, v[ROWS], joined), strict=True
    ):
        assert expected.dtype == jnp.float64
        assert_close(actual, np.asarray(expected)[ROWS], rtol=1e-10)


@pytest.mark.parametrize(("make", "layer", "tokens"), MODELS, ids=["conv4", "resnet", "vit"])
def test_joined_features_are_the_encoding(make, layer, tokens, x64):
    """Of picked and repeated rows, for heads with and without ways around the layer."""
    encode = fam_jax.capture(wide(make()), at=layer, tokens=tokens)
    check(encode, pictures(3, *((8, 8) if tokens else (16, 16)), 3))


def test_of_two_functions_the_features_are_the_activations(x64):
    encode = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)))
    images = pictures(3, 4, 4, 2)
    (values,) = encode.features(images).values
    assert_close(values, np.tanh(images), rtol=1e-12)
    check(encode, images)


def test_channels_first_and_mapped_over_images(x64):
    """An equinox module of one image, mapped; the layer's batch axis is found all the same."""
    net = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(3, 4, 3, key=jax.random.key(0)),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Lambda(lambda x: x.mean((1, 2))),
        ]
    )
    encode = fam_jax.capture(eqx.filter_vmap(net), at="layers.0", layout="NCHW")
    check(encode, pictures(3, 8, 8, 3))


def test_the_head_does_not_run_the_network_below():
    """Neither its matrix products nor its images are in the compiled head."""

    def embed(images):
        wide = fam_jax.tap((images.reshape(-1, 27) @ jnp.ones((27, 48))).reshape(-1, 4, 4, 3), "A")
        return wide.reshape(-1, 48) @ jnp.ones((48, 5))

    encode = fam_jax.capture(embed, at="A")
    features = encode.features(jnp.ones((2, 3, 3, 3)))
    text = jax.jit(lambda f: encode.from_features(f).embeddings).lower(features).as_text()
    assert text.count("dot_general") == 1


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_gradients_reach_the_parameters(wrap):
    """Of a network that is cut and joined inside the function."""

    def loss(scale, images):
        encode = fam_jax.encoder(lambda x: jnp.tanh(scale * x), lambda A: A.mean((1, 2)))
        return jnp.sum(encode.from_features(encode.features(images)).embeddings)

    images = jnp.linspace(-1, 2, 24).reshape(2, 2, 2, 3)
    slope = wrap(jax.grad(loss))(2.0, images)
    expected = jax.grad(lambda s: jnp.sum(jnp.tanh(s * images).mean((1, 2))))(2.0)
    np.testing.assert_allclose(slope, expected, rtol=1e-5)


def test_bfloat16_and_sharded_over_devices():
    encode = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)))
    mesh = Mesh(np.array(jax.devices()), ("b",))
    images = jnp.linspace(-1, 1, 8 * 16 * 3, dtype=jnp.bfloat16).reshape(8, 4, 4, 3)
    sharded = jax.device_put(images, NamedSharding(mesh, PartitionSpec("b")))
    features = encode.features(sharded)
    assert features.values[0].dtype == jnp.bfloat16
    assert features.values[0].sharding.is_equivalent_to(sharded.sharding, 4)
    joined = encode.from_features(features)
    whole = encode(images).embeddings
    # Of values up to 1 in bfloat16, in one order or another.
    assert_close(joined.embeddings, whole, relative_to=1, rtol=0.01)


def test_a_value_of_no_single_image_is_refused():
    """Batch statistics, taken below the layer and used above it."""

    def embed(images):
        mean = images.mean(0)
        A = fam_jax.tap(jnp.tanh(images), "A")
        return (A - mean[None]).mean((1, 2))

    encode = fam_jax.capture(embed, at="A")
    with pytest.raises(ValueError, match=r"crosses the layer 'A', is of no single image"):
        encode.features(jnp.ones((2, 4, 4, 3)))


def test_something_else_is_refused(unchecked):
    encode = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)))
    with pytest.raises(TypeError, match=r"expected encode.features\(...\), got ArrayImpl"):
        encode.from_features(jnp.ones(3))


class Merging(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)

    @nnx.jit
    def __call__(self, images):
        x = self.conv(images)
        return (x + images.sum(-1, keepdims=True)).mean((1, 2))


def test_a_layer_inside_a_compiled_model_is_reached(x64):
    encode = fam_jax.capture(wide(Merging(nnx.Rngs(0))), at="conv")
    check(encode, pictures(3, 8, 8, 3))
