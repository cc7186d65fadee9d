"""Residual networks give PyTorch's numbers: the embedding and every stage."""

import pytest

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
plain = pytest.importorskip("tests.parity.torch_few_shot")
pytestmark = pytest.mark.parity

STAGES = ("layer1", "layer2", "layer3", "layer4")


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "wide_resnet50_2",
        "resnext50_32x4d",
    ],
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
        batches=(1, 3) if name in ("resnet18", "resnet50") else (3,),  # compiling takes the time
    )


@pytest.mark.parametrize("depth", [20, 56])
def test_cifar_resnet(tmp_path, record_property, depth):
    compare.check(
        plain.CifarResNet(depth),
        f"cifar-resnet{depth}",
        {stage: stage for stage in STAGES[:3]},
        (31, 42, 3),
        file=tmp_path / "random.pth",
        record=record_property,
        family="CIFAR ResNet",
        dialect="akamaster-cifar",
    )
