"""Networks of few-shot learning: names, sizes, types, and a learned similarity under fam_jax."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
import pretrained_ports
from fam_jax._core.similarity import gradient
from pretrained_ports.catalog import ENTRIES, entry
from pretrained_ports.checkpoints import write
from pretrained_ports.checkpoints.dialects import DIALECTS
from pretrained_ports.models import resnet12, wide_resnet
from pretrained_ports.models.cifar_resnet import CifarResNet
from pretrained_ports.models.relation_net import Relation, RelationNet
from pretrained_ports.models.state import parameters
from pretrained_ports.relation import load_relation
from tests.close import assert_close
from tests.ports import network

pytestmark = pytest.mark.numerics

# A model of every family, narrow or shallow, the layer before its head, and a size of images.
SLIM = {
    "resnet12": (resnet12.ResNet12, ["slim"], "layer4", (19, 33)),
    "wrn": (wide_resnet.WideResNet, ["slim"], "relu", (9, 6)),
    "relationnet": (RelationNet, [], "layer4", (18, 25)),
}
every = pytest.mark.parametrize("family", SLIM)


@cache
def make(family):
    """The model in float64."""
    build, args, *_ = SLIM[family]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet12.VARIANTS, "slim", (8, 16, 16, 24))
        patch.setitem(wide_resnet.VARIANTS, "slim", wide_resnet.Variant(10, 2))
        return network.filled(build, *args, dtype="float64")


def images(family):
    return np.random.default_rng(0).standard_normal((2, *SLIM[family][3], 3))


@cache
def abstract(name):
    return entry.abstract(ENTRIES[name])


@pytest.mark.parametrize(
    ("name", "present", "absent"),
    [
        ("resnet12", {"layer1.0.conv3", "layer4.0.bn3", "layer4.0.downsample.1"}, {"layer1.1"}),
        (
            "wrn-28-10",
            {"conv1", "block1.layer.0.convShortcut", "block3.layer.3.conv2", "bn1", "relu"},
            {"block1.layer.1.convShortcut", "block3.layer.4"},
        ),
        ("relationnet", {"layer1.0", "layer4.1"}, {"layer5"}),
    ],
)
def test_modules_have_the_names_of_the_original(name, present, absent):
    paths = network.paths(abstract(name))
    assert present <= paths
    assert not absent & paths
    assert ENTRIES[name].layer in paths


@pytest.mark.parametrize(
    ("name", "dimensions"),
    [("resnet12", 640), ("resnet12-512", 512), ("wrn-28-10", 640), ("relationnet", 64 * 19 * 19)],
)
def test_embeddings_of_preprocessed_pictures(name, dimensions):
    model, preprocess = abstract(name), ENTRIES[name].preprocess
    model.eval()
    picture = preprocess(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))[None]
    out = nnx.eval_shape(lambda model, x: model(x), model, picture)
    assert out.shape == (1, dimensions)


@jax.jit
def explained(encode, images):
    """A decomposition, FAM and scores of every image and the other."""
    enc = encode(images)
    references = enc.embeddings[::-1]
    maps = [method(enc, references) for method in (fam_jax.decomposition(), fam_jax.fam())]
    return *maps, fam_jax.cosine.score(enc.embeddings, references)


@every
def test_the_default_layer_decomposes_the_cosine(x64, family):
    """The heads are linear: the mean of the last map, or all of it."""
    encode = fam_jax.capture(make(family), at=SLIM[family][2])
    parts, maps, scores = map(np.asarray, explained(encode, images(family)))
    assert_close(parts.sum((1, 2)), scores, relative_to=np.abs(parts).sum((1, 2)), rtol=1e-12)
    assert np.isfinite(maps).all()
    assert maps.any(axis=(1, 2)).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
@pytest.mark.parametrize("name", ["resnet12", "wrn-28-10", "relationnet"])
def test_embeddings_are_in_the_type_of_the_parameters(name, dtype):
    """Strict promotion refuses a mixture of types while it is traced."""
    with jax.enable_x64(dtype == "float64"):
        model = entry.abstract(ENTRIES[name], jnp.dtype(dtype))
        model.eval()
        picture = jax.ShapeDtypeStruct((2, 84, 84, 3), "float32")
        assert nnx.eval_shape(lambda model, x: model(x), model, picture).dtype == dtype


@every
def test_vmap_agrees_with_the_batch(x64, family):
    """And so evaluation mode does not mix images."""
    model = make(family)
    batch = network.embed(model, images(family))
    assert_close(network.one_by_one(model, images(family)), batch, rtol=1e-12)


@pytest.mark.parametrize("family", ["resnet12", "relationnet"])
def test_gradients_reach_images_and_parameters(x64, family):
    for path, leaf in network.gradients(make(family), images(family)).items():
        assert np.isfinite(leaf).all(), path
        assert leaf.any() or leaf.ndim == 1, path


def test_bad_input_is_refused(unchecked):
    model = network.filled(RelationNet)
    with pytest.raises(ValueError, match="at least 10 x 10 pixels, got 9 x 20"):
        model(jnp.ones((1, 9, 20, 3)))
    relation = network.filled(Relation)
    with pytest.raises(ValueError, match=r"19 x 19 cells .* got 9 x 9: fc1 takes the 3 x 3 cells"):
        relation(jnp.ones((1, 9, 9, 64)), jnp.ones((1, 9, 9, 64)))
    with pytest.raises(ValueError, match="square maps of 64 channels, got 640 dimensions"):
        relation.score(jnp.ones((1, 640)), jnp.ones((1, 640)))
    with pytest.raises(ValueError, match="shortcut must be 'A' or 'B', got 'C'"):
        CifarResNet(20, shortcut="C", rngs=nnx.Rngs(0))


@jax.jit
def score(relation, z, r):
    return relation.score(z, r)


@jax.jit
def parts(relation, z, r):
    """Shares, their score, and the score's gradient."""
    return relation.shares(z, r), relation.score(z, r), gradient(relation, z, r)


def awake(dtype="float32", **options):
    """A head with random weights whose hidden units are awake."""
    model = network.filled(Relation, dtype=dtype, **options)
    model.fc1.bias[...] = jnp.full(8, 0.5, dtype)
    return model


@pytest.fixture(scope="module")
def relation():
    return awake(shots=2)


@jax.jit
def encoded(encode, images):
    return encode(images)


@pytest.fixture(scope="module")
def pair():
    """Two encodings of three images each, in the layout of the real encoder."""
    encode = fam_jax.capture(network.filled(RelationNet), at="layer4")
    draw = np.random.default_rng(0).standard_normal((2, 3, 84, 84, 3), np.float32)
    return [encoded(encode, x) for x in draw]


@pytest.fixture(scope="module")
def embeddings(pair):
    return [np.asarray(enc.embeddings) for enc in pair]


def test_shares_of_the_relation_sum_to_its_score(relation, embeddings):
    shares, scores, _ = map(np.asarray, parts(relation, *embeddings))
    assert ((scores > 0) & (scores < 1)).all()
    assert len(set(scores.tolist())) == 3
    assert_close(shares.sum(-1), scores, relative_to=np.abs(shares).sum(-1))


def test_the_relation_takes_references_as_means_over_the_shots(relation, embeddings):
    z, r = (x.reshape(3, 64, 19, 19).transpose(0, 2, 3, 1) for x in embeddings)
    scores = score(relation, *embeddings)
    assert_close(jax.jit(relation)(z, 2 * r), scores)
    assert np.abs(scores - score(relation, *embeddings[::-1])).min() > 1e-3


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_the_relation_computes_in_the_type_of_its_parameters(relation, embeddings, dtype):
    with jax.enable_x64(dtype == "float64"):
        other = jax.tree.map(lambda a: a.astype(dtype), relation)
        given = score(other, *embeddings)
        assert given.dtype == "float32"  # that of the embeddings
    np.testing.assert_allclose(given, score(relation, *embeddings), rtol=0.1)


def test_the_gradient_of_the_relation_is_its_slope(embeddings, x64):
    """In a random direction, by central differences."""
    model = awake("float64")
    z, r = (x.astype("float64") for x in embeddings)
    direction = np.random.default_rng(1).standard_normal(z.shape)
    terms = np.asarray(parts(model, z, r)[2]) * direction
    slope = terms.sum(-1)
    step = 1e-7
    ahead, behind = (score(model, z + sign * step * direction, r) for sign in (1, -1))
    assert (slope != 0).all()
    differences = np.asarray(ahead - behind) / (2 * step)
    assert_close(differences, slope, relative_to=np.abs(terms).sum(-1), rtol=1e-5)


METHODS = [
    fam_jax.fam,
    fam_jax.grad_cam,
    fam_jax.decomposition,
    partial(fam_jax.fam, weights="gradient_x_input"),
]


@pytest.fixture(scope="module")
def maps(relation, pair):
    """Of both images of the pairs by every method."""
    methods = [make(relation) for make in METHODS]
    explain = jax.jit(lambda methods, pair: [method.pair(*pair) for method in methods])
    return jax.tree.map(np.asarray, explain(methods, pair))


@pytest.mark.parametrize("method", range(3))
def test_a_learned_relation_is_explained_as_any_similarity(maps, method):
    for map_ in maps[method]:
        assert map_.shape == (3, 19, 19)
        assert np.isfinite(map_).all()
        assert map_.any()  # of one pair Grad-CAM's ReLU may leave nothing


def test_fam_of_a_relation_does_not_see_the_even_part_of_its_shares(maps):
    """Min-max takes it off: the maps are those of gradient times input."""
    plain, other = maps[0][0], maps[3][0]
    # Shares are small beside the even part, whose rounding min-max makes larger.
    assert_close(plain, other, rtol=1e-3)


def test_pairs_of_images_under_a_learned_relation(relation):
    encode = fam_jax.capture(network.filled(RelationNet), at="layer4")
    x, y = np.random.default_rng(0).standard_normal((2, 1, 84, 84, 3), np.float32)
    out = fam_jax.explain_pairs(encode, x, y, fam_jax.fam(relation))
    expected = score(relation, encoded(encode, x).embeddings, encoded(encode, y).embeddings)
    assert_close(out.scores, expected)
    assert out.valid.all()


def test_the_relation_reads_its_own_files(tmp_path, relation, embeddings):
    file = write(tmp_path / "head.safetensors", relation, {"architecture": "relation"})
    again = load_relation(file, shots=2)
    np.testing.assert_array_equal(score(again, *embeddings), score(relation, *embeddings))


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_cifar_shortcuts_are_known_by_the_checkpoint(tmp_path, shortcut):
    model = network.filled(CifarResNet, 20, shortcut=shortcut)
    file = write(tmp_path / "weights.safetensors", model, {"architecture": "cifar-resnet20"})
    loaded = pretrained_ports.load("cifar-resnet20", file).model
    assert parameters(loaded).keys() == parameters(model).keys()
    assert ("layer2.0.shortcut.0.kernel" in parameters(loaded)) == (shortcut == "B")


def test_resnet12_tables_do_not_both_fit_one_file():
    keys = ["layer1.0.conv1.weight", "encoder.layer1.0.conv1.weight", "encoder.layer1.conv1.weight"]
    tables = ["resnet12", "resnet12-encoder", "meta-baseline"]
    known = [[DIALECTS[name].place(key) is not None for key in keys] for name in tables]
    assert known == np.eye(3, dtype=bool).tolist()
