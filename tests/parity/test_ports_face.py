"""Face networks give PyTorch's numbers: the embedding and every stage."""

import numpy as np
import pytest
from flax import nnx

from pretrained_ports.convert import parameters
from pretrained_ports.dialects import DIALECTS
from pretrained_ports.iresnet import VARIANTS, IResNet

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
        batches=(3,),
    )


@pytest.mark.parametrize("name", ["iresnet34", "iresnet50", "iresnet100"])
def test_deeper_iresnets_have_the_tensors_of_the_original(name):
    """Names and shapes only: the blocks are those of iresnet18."""
    with torch.device("meta"):
        weights = plain.IResNet(VARIANTS[name]).state_dict()
    dialect = DIALECTS["insightface-iresnet"]
    placed = {}
    for key, value in weights.items():
        if dialect.reason_to_ignore(key) is None:
            rule = dialect.place(key)
            placed[rule.target] = rule.transform(np.broadcast_to(0.0, value.shape)).shape
    model = nnx.eval_shape(lambda: IResNet(name, rngs=nnx.Rngs(0)))
    assert placed == {path: value.shape for path, value in parameters(model).items()}


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
        batches=(3,),
    )
