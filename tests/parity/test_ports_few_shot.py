"""Few-shot networks give PyTorch's numbers: the embedding and every stage."""

import jax
import numpy as np
import pytest
from PIL import Image

import pretrained_ports
from fam_jax._core import similarity
from pretrained_ports.checkpoints import read
from pretrained_ports.models import wide_resnet
from pretrained_ports.models.state import parameters
from pretrained_ports.relation import load_relation

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
plain = pytest.importorskip("tests.parity.torch_few_shot")
pytestmark = pytest.mark.parity


@pytest.mark.parametrize(("channels", "shape"), [(1, (28, 28)), (3, (84, 55))])
def test_conv4(tmp_path, record_property, channels, shape):
    compare.check(
        plain.conv4(channels),
        "conv4",
        {f"block{b}": str(4 * b - 1) for b in range(1, 5)},
        (*shape, channels),
        file=tmp_path / "random.pth",
        record=record_property,
        family="Conv-4",
        dialect="conv4-sequential",
    )


def prefixed(prefix, **beside):
    """As a network that holds the encoder saves it, beside what is not the encoder's."""

    def state(weights):
        return {**{prefix + key: value for key, value in weights.items()}, **beside}

    return state


HEAD = torch.zeros(5, 640)
STAGES = {f"layer{i}": f"layer{i}" for i in (1, 2, 3, 4)}


@pytest.mark.parametrize(
    ("release", "dialect", "state", "batch"),
    [
        ("RFS", "resnet12", lambda w: {"model": prefixed("", **{"classifier.weight": HEAD})(w)}, 3),
        (
            "FEAT",
            "resnet12-encoder",
            lambda w: {"params": prefixed("encoder.", **{"slf_attn.fc.weight": HEAD})(w)},
            1,
        ),
    ],
)
def test_resnet12(tmp_path, record_property, release, dialect, state, batch):
    compare.check(
        plain.ResNet12((64, 160, 320, 640)),
        "resnet12",
        STAGES | {"layer2.0.bn3": "layer2.0.bn3"},
        (40, 33, 3),
        file=tmp_path / "random.pth",
        record=record_property,
        family=f"ResNet-12 ({release})",
        dialect=dialect,
        state=state,
        batches=(batch,),
    )


def test_resnet12_of_deepemd_is_that_of_rfs(tmp_path):
    """After what DataParallel and DeepEMD put around it is taken off."""
    weights = plain.ResNet12((64, 160, 320, 640)).state_dict()
    torch.save({"params": prefixed("module.encoder.")(weights)}, tmp_path / "max_acc.pth")
    backbone = pretrained_ports.load("resnet12", tmp_path / "max_acc.pth")
    assert backbone.report.dialect == "resnet12"
    assert backbone.report.unwrapped == ("params", "module.", "encoder.")
    kernel = backbone.model.layer4[0].downsample[0].kernel[...]
    np.testing.assert_array_equal(
        kernel[0, 0].T, weights["layer4.0.downsample.0.weight"][..., 0, 0]
    )


def test_narrow_resnet12_of_meta_baseline(tmp_path, record_property):
    temperature = {"temp": torch.tensor(10.0), "classifier.linear.bias": torch.zeros(5)}
    compare.check(
        plain.ResNet12((64, 128, 256, 512), in_sequence=False),
        "resnet12-512",
        STAGES,
        (32, 50, 3),
        file=tmp_path / "random.pth",
        record=record_property,
        family="ResNet-12",
        dialect="meta-baseline",
        state=lambda w: {"model": "classifier", "model_sd": prefixed("encoder.", **temperature)(w)},
    )


def test_wide_resnet_has_the_tensors_of_the_original():
    with torch.device("meta"):
        reference = plain.WideResNet()
    assert compare.placed(reference, "s2m2") == compare.shapes("wrn-28-10")


def test_wide_resnet(tmp_path, monkeypatch, record_property):
    """A block of every kind, and a second in every group."""
    monkeypatch.setitem(wide_resnet.VARIANTS, "wrn-28-10", wide_resnet.Variant(16, 10))
    blocks = {f"block{i}": f"block{i}" for i in (1, 2, 3)}
    compare.check(
        plain.WideResNet(16),
        "wrn-28-10",
        blocks | {"block2.layer.0": "block2.layer.0", "bn1": "bn1", "relu": "relu"},
        (12, 17, 3),
        file=tmp_path / "random.pth",
        record=record_property,
        family="WRN-28-10",
        dialect="s2m2",
        state=lambda w: {"epoch": 1, "state": prefixed("module.")(w)},
    )


def test_relation_encoder(tmp_path, record_property):
    def without_counters(weights):
        return {key: value for key, value in weights.items() if "num_batches" not in key}

    compare.check(
        plain.RelationEncoder(),
        "relationnet",
        STAGES,
        (84, 55, 3),
        file=tmp_path / "random.pth",
        record=record_property,
        family="RelationNet",
        dialect="relation-network",
        state=without_counters,
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_relation_head(tmp_path, record_property, dtype):
    """The score, and its gradient, which is what Grad-CAM pulls back."""
    torch.manual_seed(0)
    reference = compare.randomise(plain.RelationHead())
    torch.save(reference.state_dict(), tmp_path / "head.pkl")
    reference = reference.to(getattr(torch, dtype))
    z, r = np.random.default_rng(0).standard_normal((2, 3, 64 * 19 * 19)).astype(dtype)
    query = torch.tensor(z, requires_grad=True)
    expected = reference(5 * torch.tensor(r).view(3, 64, 19, 19), query.view(3, 64, 19, 19))
    (gradient,) = torch.autograd.grad(expected.sum(), query)
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        relation = load_relation(tmp_path / "head.pkl", shots=5, param_dtype=dtype)
        z, r = jax.numpy.asarray(z), jax.numpy.asarray(r)
        got = relation.score(z, r), similarity.gradient(relation, z, r)
    for what, ours, theirs in zip(("score", "gradient"), got, (expected, gradient), strict=True):
        theirs = theirs.detach().numpy()
        assert ours.dtype == dtype
        error = np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()
        record_property(f"Relation head | relation-network | {dtype} | {what}", float(error))
        assert error <= compare.TOLERANCE[dtype]


@pytest.fixture(scope="module")
def relation_pair(assets):
    folder = assets / "checkpoints/relationnet"
    files = [
        folder / f"miniimagenet_{part}_5way_5shot.pkl"
        for part in ("feature_encoder", "relation_network")
    ]
    return files, pretrained_ports.load("relationnet", files[0]), load_relation(files[1], shots=5)


def test_real_relation_network_converts_with_no_key_left_over(relation_pair):
    files, backbone, relation = relation_pair
    assert set(backbone.report.used) == set(read(files[0]).tensors)
    assert not backbone.report.ignored
    assert backbone.embedding_dim == 64 * 19 * 19
    weights = read(files[1]).tensors
    assert len(weights) == len(parameters(relation))
    np.testing.assert_array_equal(relation.fc1.kernel[...], weights["fc1.weight"].T)


def test_real_relation_scores_a_picture_highest_with_itself(assets, relation_pair, record_property):
    """On average over photographs that it never saw."""
    _, backbone, relation = relation_pair
    files = sorted((assets / "images/raccoon").glob("*.jpg"))[:12]
    files += sorted((assets / "images/oneshot").glob("imprinting_*.bmp"))
    pictures = np.stack([backbone.preprocess(Image.open(file)) for file in files])
    z = jax.jit(backbone.model)(pictures)
    scores = np.stack([relation.score(z, jax.numpy.broadcast_to(r, z.shape)) for r in z])
    same = np.diag(scores).mean()
    others = scores[~np.eye(len(z), dtype=bool)].mean()
    record_property("relation with itself", float(same))
    record_property("relation with others", float(others))
    assert same > others
