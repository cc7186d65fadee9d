"""Files of many keys, of circles, and with parts that cannot be read, in bounded time."""

import time

import numpy as np
import pytest

import pretrained_ports
from pretrained_ports.checkpoints import CheckpointError, read
from pretrained_ports.conversion import find_model
from tests.ports.theirs import behind, one_value, opened, tensors
from tests.ports.torch_bytes import pickled, storage, tensor, write_zip

NAME = "cifar-resnet20"
ONE = tensors(NAME, 1.0)
NUMBER, VECTOR = np.array(3), np.ones(4, np.float32)


@pytest.mark.parametrize("pattern", ["a{}.weight", "layer1.{}.conv1.weight", "b.c.d.e.f.g.{}"])
def test_any_number_of_keys(tmp_path, pattern):
    """More than a network has are not held against every table, nor lists searched in lists."""
    checkpoint = opened({pattern.format(i): VECTOR for i in range(60_000)}, tmp_path)
    start = time.perf_counter()
    with pytest.raises(CheckpointError, match=r"it has 60000 tensors, and a network 5000 at most"):
        pretrained_ports.load(NAME, checkpoint)
    with pytest.raises(CheckpointError, match=r"follows no known dialect"):
        find_model(checkpoint)
    assert time.perf_counter() - start < 30  # more than a hundred seconds, were they not counted


def test_a_network_among_sixty_thousand_keys(tmp_path):
    many = {f"other.{i // 7}.x{i}": NUMBER for i in range(60_000)}
    assert (
        one_value(pretrained_ports.load(NAME, opened({**many, **behind("net.", ONE)}, tmp_path)))
        == 1
    )


def test_dictionaries_in_a_circle_and_in_many_places(tmp_path):
    """Each is looked into once."""
    content, shared = {"state_dict": {}}, {"x": 1}
    content["state_dict"]["state_dict"] = content["again"] = content
    for _ in range(60):
        shared = {"left": shared, "right": shared, "both": [shared, shared]}
    content["shared"] = shared
    with pytest.raises(CheckpointError, match=r"holds no dictionary of tensors"):
        opened(content, tmp_path)
    content["state_dict"]["weights"] = ONE
    assert one_value(pretrained_ports.load(NAME, opened(content, tmp_path))) == 1


def test_a_file_beside_the_weights_of_which_a_part_cannot_be_read(tmp_path):
    """The network is read; what has no array is left where it is."""
    weights = {"w": tensor(), "v": tensor(of=storage("1"))}
    other = {f"s{i}": tensor() for i in range(3)} | {"x" * 501: tensor()}
    code = pickled({"net": weights, "masks": other})
    file = write_zip(tmp_path / "a.pth", code, {"0": bytes(24), "1": bytes(24)})
    assert list(read(file).tensors) == ["w", "v"]
