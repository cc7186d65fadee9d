"""Face networks give PyTorch's numbers: the embedding and every stage."""

import pytest

from pretrained_ports.models.iresnet import VARIANTS

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
plain = pytest.importorskip("tests.parity.torch_face")
pytestmark = pytest.mark.parity


def test_iresnet(tmp_path, record_property):
    compare.check(
        plain.IResNet(VARIANTS["iresnet18"]),
        "iresnet18",
        {path: path for path in ("layer1", "layer2", "layer3", "layer4", "layer1.1.prelu", "bn2")},
        (112, 112, 3),
        file=tmp_path / "random.pth",
        record=record_property,
        family="iResNet",
        dialect="insightface-iresnet",
    )


@pytest.mark.parametrize("name", ["iresnet34", "iresnet50", "iresnet100"])
def test_deeper_iresnets_have_the_tensors_of_the_original(name):
    """Names and shapes only: the blocks are those of iresnet18."""
    with torch.device("meta"):
        reference = plain.IResNet(VARIANTS[name])
    assert compare.placed(reference, "insightface-iresnet") == compare.shapes(name)


def test_mobilefacenet(tmp_path, record_property):
    stages = {f"layers.{i}": f"layers.{i}" for i in range(8)}
    compare.check(
        plain.MobileFaceNet(),
        "mobilefacenet",
        stages | {"conv_sep": "conv_sep"},
        (112, 112, 3),
        file=tmp_path / "random.pth",
        record=record_property,
        family="MobileFaceNet",
        dialect="insightface-mobilefacenet",
    )
