"""Preprocessing matches torchvision to the grey level, and timm's table of inputs."""

import numpy as np
import pytest
from PIL import Image

from pretrained_ports.catalog import ENTRIES
from pretrained_ports.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

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


@pytest.fixture(scope="module")
def photographs(assets):
    """Real photographs, large and small, upright and lying."""
    files = sorted((assets / "images/raccoon").glob("*.jpg"))[:8]
    files += sorted((assets / "images/oneshot").glob("*.bmp"))[:2]
    return [Image.open(file).convert("RGB") for file in files]


def grey_levels(ours, array):
    return (array * np.float32(ours.std) + np.float32(ours.mean)) * 255


def assert_same_pixels(ours, theirs, photographs, record):
    """Within a grey level on average, over every photograph."""
    for picture in photographs:
        expected = grey_levels(ours, theirs(picture))
        given = grey_levels(ours, ours(picture))
        assert given.shape == expected.shape
        difference = np.abs(given - expected).mean()
        record("mean difference in grey levels", float(difference))
        assert difference <= 1


def on_the_hub():
    """One name for every kind of input that hub weights have."""
    names = {entry.preprocess: name for name, entry in ENTRIES.items() if _in_timm(entry)}
    return sorted(names.values())


def _in_timm(entry):
    # Where timm lists a margin that the authors' own code has not, we do as the authors.
    originals = entry.family in ("CLIP", "SigLIP")
    return entry.hub and entry.hub.repository.startswith("timm/") and not originals


@pytest.mark.parametrize("name", on_the_hub())
def test_pixels_are_those_of_timm(photographs, name, record_property):
    compare.import_torchvision()
    data = pytest.importorskip("timm.data")
    timm = pytest.importorskip("timm")
    entry = ENTRIES[name]
    config = timm.get_pretrained_cfg(entry.hub.repository.removeprefix("timm/")).to_dict()
    transform = data.create_transform(**data.resolve_data_config(pretrained_cfg=config))

    def theirs(picture):
        return transform(picture).permute(1, 2, 0).numpy()

    assert_same_pixels(entry.preprocess, theirs, photographs, record_property)


HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
PROCESSORS = {
    "CLIP": (ENTRIES["clip-vit-b32"].preprocess, {}),
    "Siglip": (ENTRIES["siglip-base-patch16"].preprocess, {}),
    "ViT": (Preprocess((224, 224), None, interpolation="bilinear", **HALF), {}),
    "Bit": (  # as DINOv2 is served
        Preprocess((224, 224), 256, interpolation="bicubic"),
        {
            "size": {"shortest_edge": 256},
            "image_mean": list(IMAGENET_MEAN),
            "image_std": list(IMAGENET_STD),
        },
    ),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_those_of_transformers(photographs, name, record_property):
    transformers = pytest.importorskip("transformers")
    compare.import_torchvision()
    ours, options = PROCESSORS[name]
    processor = getattr(transformers, f"{name}ImageProcessorPil")(**options)

    def theirs(picture):
        values = processor(picture, return_tensors="np")["pixel_values"]
        return np.asarray(values)[0].transpose(1, 2, 0)

    # An odd margin is halved downwards there; torchvision, which the models were trained with,
    # rounds a half to even, and so do we: such a crop lies a pixel apart.
    same_crop = [p for p in photographs if crops_alike(ours, p)]
    assert len(same_crop) >= 4
    assert_same_pixels(ours, theirs, same_crop, record_property)


def crops_alike(ours, picture):
    if ours.resize is None:
        return True
    margin = max(picture.size) * ours.resize // min(picture.size) - ours.size[0]
    return round(margin / 2) == margin // 2


def hub_rows(wanted):
    compare.import_torchvision()
    timm = pytest.importorskip("timm")
    rows = {n: e for n, e in ENTRIES.items() if e.hub and e.hub.repository.startswith("timm/")}
    for name, entry in rows.items():
        if wanted(entry):
            yield name, entry, timm.get_pretrained_cfg(entry.hub.repository.removeprefix("timm/"))


def test_inputs_are_those_of_the_hub_weights():
    rows = list(hub_rows(lambda entry: True))
    assert len(rows) >= 40
    for name, entry, theirs in rows:
        ours = entry.preprocess
        assert theirs.hf_hub_id.rstrip("/") == entry.hub.repository, name
        assert (3, *ours.size) == theirs.input_size, name
        # Lite was trained on (x - 127) / 128 of grey levels, which timm rounds to half.
        near = 0.003 if "-lite" in name and not name.endswith("-ra") else 0
        np.testing.assert_allclose((ours.mean, ours.std), (theirs.mean, theirs.std), 0, near, name)
        assert ours.interpolation == theirs.interpolation, name


def test_margins_are_those_of_the_hub_weights():
    for name, entry, theirs in hub_rows(_in_timm):
        stretched = theirs.crop_mode == "squash" and theirs.crop_pct == 1
        assert stretched or theirs.crop_mode == "center", name
        margin = None if stretched else int(entry.preprocess.size[0] / theirs.crop_pct)
        assert entry.preprocess.resize == margin, name


def test_clip_pixels_are_those_of_openclip(photographs, record_property):
    compare.import_torchvision()
    open_clip = pytest.importorskip("open_clip")
    for name, model, pretrained in (
        ("clip-vit-b32", "ViT-B-32", "openai"),
        ("clip-vit-l14-laion2b", "ViT-L-14", "laion2b_s32b_b82k"),
        ("siglip-base-patch16", "ViT-B-16-SigLIP", "webli"),
    ):
        ours = ENTRIES[name].preprocess
        config = open_clip.get_pretrained_cfg(model, pretrained)
        keys = ("mean", "std", "interpolation", "resize_mode")
        options = {key: config[key] for key in keys if key in config}
        transform = open_clip.image_transform(ours.size, is_train=False, **options)

        def theirs(picture, transform=transform):
            return transform(picture).permute(1, 2, 0).numpy()

        assert_same_pixels(ours, theirs, photographs, record_property)
