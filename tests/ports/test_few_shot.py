"""Networks of few-shot learning: names, sizes, types, and a learned similarity under fam_jax."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fam_jax
import pretrained_ports
from pretrained_ports import resnet12, wide_resnet
from pretrained_ports.cifar_resnet import CifarResNet
from pretrained_ports.convert import parameters, write
from pretrained_ports.dialects import DIALECTS
from pretrained_ports.random_weights import randomise
from pretrained_ports.relation_net import Relation, RelationNet, load_relation
from pretrained_ports.zoo import ENTRIES


def filled(build, *args, param_dtype="float32", **options):
    """A model with the weights of `create`, in evaluation mode."""
    options["param_dtype"] = jnp.dtype(param_dtype)
    model = nnx.eval_shape(lambda: build(*args, **options, rngs=nnx.Rngs(0)))
    randomise(model, 0, param_dtype)
    model.eval()
    return model


@pytest.fixture(scope="module", params=["resnet12", "wrn", "relationnet"])
def slim(request):
    """A model of every family, the layer before its head, and images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet12.VARIANTS, "slim", (8, 16, 16, 24))
        patch.setitem(wide_resnet.VARIANTS, "slim", wide_resnet.Variant(10, 2))
        build, args, layer, shape = {
            "resnet12": (resnet12.ResNet12, ["slim"], "layer4", (19, 33)),
            "wrn": (wide_resnet.WideResNet, ["slim"], "relu", (9, 6)),
            "relationnet": (RelationNet, [], "layer4", (18, 25)),
        }[request.param]
        images = np.random.default_rng(0).standard_normal((2, *shape, 3))
        return filled(build, *args), layer, jnp.asarray(images, jnp.float32)


@cache
def abstract(name):
    return nnx.eval_shape(lambda: ENTRIES[name].build(rngs=nnx.Rngs(0)))


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
    paths = {".".join(map(str, path)) for path, _ in nnx.iter_modules(abstract(name))}
    assert present <= paths
    assert not absent & paths
    assert ENTRIES[name].layer in paths


@pytest.mark.parametrize(
    ("name", "millions"),
    [("resnet12", 12.42), ("resnet12-512", 8.0), ("wrn-28-10", 36.47), ("relationnet", 0.113)],
)
def test_sizes(name, millions):
    """As published, without the classifier: 36.5 of WRN-28-10 on CIFAR-10 has 0.006 for it."""
    leaves = jax.tree.leaves(nnx.state(abstract(name), nnx.Param))
    assert sum(p.size for p in leaves) / 1e6 == pytest.approx(millions, abs=0.005)


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


def test_the_default_layer_decomposes_the_cosine(slim):
    """The heads are linear: the mean of the last map, or all of it."""
    model, layer, images = slim
    encode = fam_jax.capture(model, at=layer)

    @jax.jit
    def explained(encode, images):
        enc = encode(images)
        references = enc.embeddings[::-1]
        maps = [method(enc, references) for method in (fam_jax.decomposition(), fam_jax.fam())]
        return *maps, fam_jax.cosine.score(enc.embeddings, references)

    parts, maps, scores = explained(encode, images)
    np.testing.assert_allclose(parts.sum((1, 2)), scores, rtol=1e-4, atol=1e-5)
    assert jnp.isfinite(maps).all()
    assert maps.any(axis=(1, 2)).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
@pytest.mark.parametrize("name", ["resnet12", "wrn-28-10", "relationnet"])
def test_embeddings_are_in_the_type_of_the_parameters(name, dtype):
    """Strict promotion refuses a mixture of types while it is traced."""
    with jax.enable_x64(dtype == "float64"):
        build = ENTRIES[name].build
        model = nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0), param_dtype=jnp.dtype(dtype)))
        model.eval()
        picture = jax.ShapeDtypeStruct((2, 84, 84, 3), "float32")
        assert nnx.eval_shape(lambda model, x: model(x), model, picture).dtype == dtype


def test_vmap_agrees_with_the_batch(slim):
    """And so evaluation mode does not mix images."""
    model, _, images = slim
    graph, state = nnx.split(model)
    one_by_one = jax.vmap(lambda image: nnx.merge(graph, state)(image[None])[0])
    expected = jax.jit(model)(images)
    np.testing.assert_allclose(jax.jit(one_by_one)(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("slim", ["resnet12", "relationnet"], indirect=True)
def test_gradients_reach_images_and_parameters(slim):
    model, _, images = slim
    graph, state = nnx.split(model)
    loss = lambda state, x: (nnx.merge(graph, state)(x) ** 2).sum()  # noqa: E731
    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss, argnums=(0, 1)))(state, images)):
        assert jnp.isfinite(leaf).all()
        assert jnp.any(leaf != 0) or leaf.ndim == 1


def test_bad_input_is_refused(unchecked):
    model = filled(RelationNet)
    with pytest.raises(ValueError, match="at least 10 x 10 pixels, got 9 x 20"):
        model(jnp.ones((1, 9, 20, 3)))
    relation = filled(Relation)
    with pytest.raises(ValueError, match=r"19 x 19 cells .* got 9 x 9: fc1 takes the 3 x 3 cells"):
        relation(jnp.ones((1, 9, 9, 64)), jnp.ones((1, 9, 9, 64)))
    with pytest.raises(ValueError, match="square maps of 64 channels, got 640 dimensions"):
        relation.score(jnp.ones((1, 640)), jnp.ones((1, 640)))
    with pytest.raises(ValueError, match="shortcut must be 'A' or 'B', got 'C'"):
        CifarResNet(20, shortcut="C", rngs=nnx.Rngs(0))


@jax.jit
def score(relation, z, r):
    return relation.score(z, r)


@pytest.fixture(scope="module")
def relation():
    """A head with random weights whose hidden units are awake."""
    model = filled(Relation, shots=2)
    model.fc1.bias[...] = jnp.full(8, 0.5)
    return model


@pytest.fixture(scope="module")
def pair():
    """Two encodings of three images each, in the layout of the real encoder."""
    encode = fam_jax.capture(filled(RelationNet), at="layer4")
    return [encode(x) for x in jax.random.normal(jax.random.key(0), (2, 3, 84, 84, 3))]


@pytest.fixture(scope="module")
def embeddings(pair):
    return [enc.embeddings for enc in pair]


def test_shares_of_the_relation_sum_to_its_score(relation, embeddings):
    scores = score(relation, *embeddings)
    assert ((scores > 0) & (scores < 1)).all()
    assert len(set(scores.tolist())) == 3
    shares = jax.jit(lambda relation, z, r: relation.shares(z, r))(relation, *embeddings)
    np.testing.assert_allclose(shares.sum(-1), scores, rtol=1e-4)


def test_the_relation_takes_references_as_means_over_the_shots(relation, embeddings):
    z, r = (x.reshape(3, 64, 19, 19).transpose(0, 2, 3, 1) for x in embeddings)
    scores = score(relation, *embeddings)
    np.testing.assert_allclose(scores, jax.jit(relation)(z, 2 * r), rtol=1e-5)
    assert jnp.abs(scores - score(relation, *embeddings[::-1])).min() > 1e-3


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_the_relation_computes_in_the_type_of_its_parameters(relation, embeddings, dtype):
    with jax.enable_x64(dtype == "float64"):
        other = jax.tree.map(lambda a: a.astype(dtype), relation)
        given = score(other, *embeddings)
        assert given.dtype == "float32"  # that of the embeddings
    np.testing.assert_allclose(given, score(relation, *embeddings), rtol=0.1)


def test_the_gradient_of_the_relation_is_its_slope(embeddings, x64):
    """In a random direction, by central differences."""
    model = filled(Relation, param_dtype="float64")
    model.fc1.bias[...] = jnp.full(8, 0.5)
    z, r = (x.astype("float64") for x in embeddings)
    direction = jax.random.normal(jax.random.key(1), z.shape, "float64")
    gradient = jax.jit(fam_jax.similarity.gradient)(model, z, r)
    slope = (gradient * direction).sum(-1)
    step = 1e-7
    ahead, behind = (score(model, z + sign * step * direction, r) for sign in (1, -1))
    assert (slope != 0).all()
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-4)


@pytest.mark.parametrize("make", [fam_jax.fam, fam_jax.grad_cam, fam_jax.decomposition])
def test_a_learned_relation_is_explained_as_any_similarity(relation, pair, make):
    method = make(relation)
    for maps in jax.jit(lambda method, pair: method.pair(*pair))(method, pair):
        assert maps.shape == (3, 19, 19)
        assert jnp.isfinite(maps).all()
        assert maps.any(axis=(1, 2)).all()


def test_pairs_of_images_under_a_learned_relation(relation):
    encode = fam_jax.capture(filled(RelationNet), at="layer4")
    x, y = jax.random.normal(jax.random.key(0), (2, 1, 84, 84, 3))
    out = fam_jax.explain_pairs(encode, x, y, fam_jax.fam(relation))
    expected = score(relation, encode(x).embeddings, encode(y).embeddings)
    np.testing.assert_allclose(out.scores, expected, rtol=1e-3)
    assert out.valid.all()


def test_fam_of_a_relation_does_not_see_the_even_part_of_its_shares(relation, pair):
    """Min-max takes it off: the maps are those of gradient times input."""
    query, reference = pair
    maps, other = (
        jax.jit(lambda method: method(query, reference.embeddings))(method)
        for method in (fam_jax.fam(relation), fam_jax.fam(relation, weights="gradient_x_input"))
    )
    np.testing.assert_allclose(maps, other, rtol=1e-3)


def test_the_relation_reads_its_own_files(tmp_path, relation, embeddings):
    file = write(tmp_path / "head.safetensors", relation, {"architecture": "relation"})
    again = load_relation(file, shots=2)
    np.testing.assert_array_equal(score(again, *embeddings), score(relation, *embeddings))


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_cifar_shortcuts_are_known_by_the_checkpoint(tmp_path, shortcut):
    model = filled(CifarResNet, 20, shortcut=shortcut)
    file = write(tmp_path / "weights.safetensors", model, {"architecture": "cifar-resnet20"})
    loaded = pretrained_ports.load("cifar-resnet20", file).model
    assert parameters(loaded).keys() == parameters(model).keys()
    assert ("layer2.0.shortcut.0.kernel" in parameters(loaded)) == (shortcut == "B")


def test_resnet12_tables_do_not_both_fit_one_file():
    keys = ["layer1.0.conv1.weight", "encoder.layer1.0.conv1.weight", "encoder.layer1.conv1.weight"]
    tables = ["resnet12", "resnet12-encoder", "meta-baseline"]
    known = [[DIALECTS[name].place(key) is not None for key in keys] for name in tables]
    assert known == np.eye(3, dtype=bool).tolist()
