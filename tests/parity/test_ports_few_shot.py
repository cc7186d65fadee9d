"""Few-shot networks give PyTorch's numbers: the embedding and every stage."""

import pytest

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
