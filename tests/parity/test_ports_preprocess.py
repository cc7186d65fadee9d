"""Preprocessing matches torchvision to the grey level, and timm's table of inputs."""

import numpy as np
import pytest
from PIL import Image

from pretrained_ports.catalog import ENTRIES
from pretrained_ports.preprocess import Preprocess

pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
pytestmark = pytest.mark.parity

SHAPES = [(224, 224), (333, 500), (500, 333), (257, 301), (91, 640), (1000, 97), (255, 257)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "resize"), [(224, 256), (225, 256), (84, 84), (128, 143)])
def test_equals_torchvision(shape, interpolation, size, resize):
    transforms = compare.import_torchvision().transforms
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    ours = Preprocess((size, size), resize, interpolation=interpolation)
    cropped = transforms.Compose(
        [
            transforms.Resize(resize, transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(size),
        ]
    )(Image.fromarray(pixels))
    theirs = transforms.Compose([transforms.ToTensor(), transforms.Normalize(ours.mean, ours.std)])(
        cropped
    )
    np.testing.assert_array_equal(np.asarray(ours.view(pixels)), np.asarray(cropped))
    np.testing.assert_allclose(ours(pixels), theirs.permute(1, 2, 0).numpy(), rtol=0, atol=1e-6)


def test_inputs_are_those_of_the_hub_weights():
    compare.import_torchvision()
    timm = pytest.importorskip("timm")
    rows = {name: entry for name, entry in ENTRIES.items() if entry.hub}
    assert rows
    for entry in rows.values():
        repository, file = entry.hub
        theirs = timm.get_pretrained_cfg(repository.removeprefix("timm/"))
        ours = entry.preprocess
        assert theirs.hf_hub_id == repository
        assert file == "model.safetensors"
        assert (3, *ours.size) == theirs.input_size
        assert ours.resize == int(ours.size[0] / theirs.crop_pct)
        assert (ours.mean, ours.std) == (theirs.mean, theirs.std)
        assert ours.interpolation == theirs.interpolation
