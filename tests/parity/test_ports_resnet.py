"""Residual networks give PyTorch's numbers: the embedding and every stage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pretrained_ports
from pretrained_ports.models.state import parameters

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
plain = pytest.importorskip("tests.parity.torch_few_shot")
ssl = pytest.importorskip("tests.parity.torch_ssl")
pytestmark = pytest.mark.parity

STAGES = ("layer1", "layer2", "layer3", "layer4")


@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnet50", "wide_resnet50_2", "resnext50_32x4d"],
)
def test_resnet(tmp_path, record_property, name):
    reference = getattr(compare.import_torchvision().models, name)()
    embed = torch.nn.Sequential(*list(reference.children())[:-1], torch.nn.Flatten())
    compare.check(
        reference,
        name,
        {stage: str(i) for i, stage in enumerate(STAGES, 4)},
        (64, 96, 3),
        file=tmp_path / "random.pth",
        record=record_property,
        family="ResNet",
        dialect="torchvision",
        embed=embed,
        batches=(1, 3) if name == "resnet18" else (3,),
    )


@pytest.mark.parametrize("name", ["resnet34", "resnet101", "resnet152"])
def test_deeper_resnets_have_the_tensors_of_the_original(name):
    """Names and shapes only: the blocks are those of resnet18 and resnet50."""
    models = compare.import_torchvision().models
    with torch.device("meta"):
        reference = getattr(models, name)()
    assert compare.placed(reference, "torchvision") == compare.shapes(name)


@pytest.mark.parametrize("depth", [56, 110])
def test_deeper_cifar_resnets_have_the_tensors_of_the_original(depth):
    with torch.device("meta"):
        reference = plain.CifarResNet(depth)
    assert compare.placed(reference, "akamaster-cifar") == compare.shapes(f"cifar-resnet{depth}")


@pytest.mark.parametrize(
    ("option", "family"), [("A", "CIFAR ResNet"), ("B", "CIFAR ResNet (option B)")]
)
def test_cifar_resnet(tmp_path, record_property, option, family):
    """Parameters in its shortcuts, option "B", are known by the checkpoint's keys."""
    compare.check(
        plain.CifarResNet(20, option),
        "cifar-resnet20",
        {stage: stage for stage in STAGES[:3]},
        (31, 42, 3),
        file=tmp_path / "random.pth",
        record=record_property,
        family=family,
        dialect="akamaster-cifar",
    )


# dialect, the wrapper that its authors put around the network, what they save it under
SELF_SUPERVISED = [
    ("moco", ssl.moco_v1, "state_dict"),
    ("moco", ssl.moco_v2, "state_dict"),
    ("moco-v3", ssl.moco_v3, "state_dict"),
    ("simsiam", ssl.simsiam, "state_dict"),
    ("simclr", ssl.simclr, "state_dict"),
    ("simclr-encoder", ssl.simclr_encoder, None),
    ("simclr-bolts", ssl.simclr_bolts, "state_dict"),
    ("byol", ssl.byol, None),
    ("solo-learn", ssl.solo_learn, "state_dict"),
    ("swav", ssl.swav, None),
    ("barlow-twins", ssl.barlow_twins, "model"),
    ("dino-resnet", ssl.dino, "teacher"),
]
WRAPPERS = [wrapper.__name__ for _, wrapper, _ in SELF_SUPERVISED]


def self_supervised(wrapper, variant="resnet18"):
    network = getattr(compare.import_torchvision().models, variant)()
    whole, head = wrapper(network, torch.randn(16, 8))
    return network, whole, head


@pytest.mark.parametrize(("dialect", "wrapper", "saved"), SELF_SUPERVISED, ids=WRAPPERS)
def test_heads_are_dropped_or_kept(tmp_path, record_property, dialect, wrapper, saved):
    """Dropped, what is left equals torchvision's own file; kept, the head gives its numbers."""
    network, whole, head = self_supervised(wrapper)
    file = tmp_path / "wrapped.pth"
    weights = compare.randomise(whole).state_dict()
    torch.save({saved: weights, "epoch": 3} if saved else weights, file)
    layers = ssl.embedding(network).state_dict()
    torch.save({k: w for k, w in layers.items() if k[0] in "cbl"}, tmp_path / "plain.pth")

    expected = pretrained_ports.load("resnet18", tmp_path / "plain.pth")
    assert expected.report.dialect == "torchvision"
    dropped = pretrained_ports.load("resnet18", file)
    assert dropped.report.dialect == dialect
    assert dropped.embedding_dim == 512
    assert 'the projection head (head="keep" takes it)' in dropped.report.ignored.values()
    assert parameters(dropped.model).keys() == parameters(expected.model).keys()
    for path, value in parameters(dropped.model).items():
        np.testing.assert_array_equal(value, parameters(expected.model)[path], err_msg=path)

    embeddings = np.random.default_rng(0).standard_normal((3, 512))
    for dtype, tolerance in compare.TOLERANCE.items():
        with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
            kept = pretrained_ports.load("resnet18", file, param_dtype=dtype, head="keep")
            assert kept.embedding_dim == 16
            got = np.asarray(kept.model.head(jnp.asarray(embeddings, dtype)))
        with torch.no_grad():
            theirs = head.to(getattr(torch, dtype))(torch.as_tensor(embeddings.astype(dtype)))
        error = np.abs(got - theirs.numpy()).max() / np.abs(theirs.numpy()).max()
        record_property(f"ResNet | {dialect} | resnet18 | {dtype} | head", float(error))
        assert got.dtype == dtype
        assert error <= tolerance


@pytest.mark.parametrize(
    ("dialect", "wrapper"), [("moco-v3", ssl.moco_v3), ("dino-resnet", ssl.dino)]
)
def test_a_kept_head_makes_the_embedding(tmp_path, record_property, dialect, wrapper):
    network, whole, head = self_supervised(wrapper)
    compare.check(
        whole,
        "resnet18",
        {stage: stage for stage in STAGES},
        (32, 48, 3),
        file=tmp_path / "random.pth",
        record=record_property,
        family="ResNet + head",
        dialect=dialect,
        embed=ssl.embedding(network, head),
        head="keep",
    )


class HfEmbedding(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images).pooler_output.flatten(1)


@pytest.mark.parametrize(
    ("name", "kind", "depths", "expansion"),
    [("resnet18", "basic", (2, 2, 2, 2), 1), ("resnet50", "bottleneck", (3, 4, 6, 3), 4)],
)
def test_transformers(tmp_path, record_property, name, kind, depths, expansion):
    """The basic one with its classifier, which puts a prefix before the rest."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        depths=depths,
        hidden_sizes=[width * expansion for width in (64, 128, 256, 512)],
        layer_type=kind,
    )
    if kind == "basic":
        whole = transformers.ResNetForImageClassification(config)
        network = whole.resnet
    else:
        whole = network = transformers.ResNetModel(config)
    compare.check(
        whole,
        name,
        {stage: f"network.encoder.stages.{i}" for i, stage in enumerate(STAGES)},
        (32, 48, 3),
        file=tmp_path / "random.pth",
        record=record_property,
        family="ResNet",
        dialect="hf-resnet",
        embed=HfEmbedding(network),
    )
