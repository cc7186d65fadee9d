"""Every method of the table through every entry point, or refused by it in one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
from fam_jax import methods
from fam_jax.methods.registry import _METHODS, entry
from pretrained_ports.models.vit import VisionTransformer
from pretrained_ports.models.vit_variants import VARIANTS
from tests.close import assert_close


class Small(nnx.Module):
    """A convolution, ReLU, a mean and a linear layer."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 6, (3, 3), strides=2, rngs=rngs)
        self.linear = nnx.Linear(6, 5, use_bias=False, rngs=rngs)

    def __call__(self, images):
        return self.linear(nnx.relu(self.conv(images)).mean((1, 2)))


RNG = np.random.default_rng(0)
IMAGES, OTHERS = RNG.normal(size=(2, 2, 16, 16, 3)).astype(np.float32)


def strongest(similarity=fam_jax.cosine):
    """A method of a user's own: where any channel is strong."""

    def maps(similarity, enc, references):
        return enc.activations.max(-1) * similarity.score(enc.embeddings, references)[:, None, None]

    return fam_jax.Method(similarity, maps)


OWN = "a user's own"
NAMES = [*methods.names(), OWN]
every = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module", autouse=True)
def registered():
    methods.register(OWN, strongest)
    yield
    _METHODS.pop(OWN)


CONVOLUTIONS = fam_jax.capture(Small(nnx.Rngs(0)), at="conv")


def transformer():
    variant = VARIANTS["vit-tiny-patch16"]._replace(patch=4, dim=24, depth=1, heads=2, grid=4)
    return VisionTransformer(variant, rngs=nnx.Rngs(0))


def attentive_encoder():
    return fam_jax.capture(transformer(), at="blocks.0", tokens=(1, (4, 4)))


def made(name, encode):
    """The method, against the embeddings of others where it needs some."""
    needed = entry(name).background == "needed"
    background = RNG.normal(size=(7, encode(OTHERS).embeddings.shape[1])).astype(np.float32)
    return methods.make(name, background=background if needed else None)


@pytest.fixture(scope="module")
def suited():
    """A name -> an encoder that the method has something to read in, and the method."""
    attentive = attentive_encoder()

    def of(name):
        method = made(name, CONVOLUTIONS)
        if "layers" not in method.needs:
            return CONVOLUTIONS, method
        return attentive, made(name, attentive)

    return of


@jax.jit
def by_the_functions(encode, method, images, others):
    """Maps of the images from every function, in one program."""
    pairs = fam_jax.explain_pairs(encode, images, others, method)
    by_hand = method(encode(images, method), encode(others, method))
    references = encode(others).embeddings
    if "other" in method.needs:
        every = fam_jax.explain_all(encode, images, others, method)
        one = by_hand, pairs.valid
    else:
        every = fam_jax.explain_all(encode, images, references, method)
        one = fam_jax.explain(encode, images, references, method)[::2]
    own = jnp.stack([every.maps[i, i] for i in range(2)])
    return pairs, by_hand, one, (own, every.valid.diagonal())


@every
def test_by_the_functions(name, suited):
    """`explain`, `explain_pairs`, `explain_all` and the method itself say the same."""
    pairs, by_hand, (each, _), (own, valid_of_all) = by_the_functions(*suited(name), IMAGES, OTHERS)
    maps = pairs.query_maps
    assert maps.shape[0] == 2
    assert np.isfinite(maps).all()
    for other in (by_hand, each, own):
        assert_close(other, maps)
    assert (valid_of_all >= pairs.valid).all()


@every
def test_a_map_of_zeros_is_not_valid(name, suited):
    """A picture that is no number has one; the picture beside it keeps its own."""
    bad = IMAGES.copy()
    bad[1] = np.nan
    pairs, by_hand, *others = by_the_functions(*suited(name), bad, OTHERS)
    something = by_hand.any((1, 2))
    assert something.tolist()[1] is False
    for maps, valid in others:
        assert np.array_equal(maps.any((1, 2)), valid)
        assert np.array_equal(valid, something)
    both = pairs.query_maps.any((1, 2)) & pairs.reference_maps.any((1, 2))
    assert np.array_equal(pairs.valid, both)


BOTH = [name for name in methods.names() if "other" in entry(name).factory(fam_jax.cosine).needs]


@pytest.mark.parametrize("name", BOTH)
def test_methods_of_both_images_ask_for_the_other(name):
    method = made(name, CONVOLUTIONS)
    references = CONVOLUTIONS(OTHERS).embeddings
    with pytest.raises(TypeError, match="looks at the other image, too; use explain_pairs"):
        fam_jax.explain(CONVOLUTIONS, IMAGES, references, method)
    with pytest.raises(TypeError, match=r"looks at the other image, too; give images \[r, H, W, c"):
        fam_jax.explain_all(CONVOLUTIONS, IMAGES, references, method)


@pytest.mark.parametrize(
    "name", ["attention-rollout", "chefer", "le-grad", "le-grad-contrastive", "grad-eclip"]
)
def test_attention_is_refused_where_there_is_none(name):
    method = made(name, CONVOLUTIONS)
    for call in (fam_jax.explain_pairs, fam_jax.explain_all):
        with pytest.raises(ValueError, match="this method is for transformers: the network has no"):
            call(CONVOLUTIONS, IMAGES, OTHERS, method)


@pytest.mark.parametrize("name", ["relevance-cam", "relevance-cam-contrastive"])
def test_a_function_has_no_layers_to_read_in_another_way(name):
    encode = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)))
    with pytest.raises(TypeError, match="reads the layers of a flax"):
        fam_jax.explain_pairs(encode, IMAGES, OTHERS, made(name, encode))


def test_relevance_has_no_rules_for_transformers():
    """The maps would be another method's: gradients through norms and attention."""
    encode = attentive_encoder()
    with pytest.raises(ValueError, match="for convolutional networks: VisionTransformer has atte"):
        fam_jax.explain_pairs(encode, IMAGES, OTHERS, fam_jax.relevance_cam())
