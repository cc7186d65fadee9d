"""The classifier of a checkpoint: found by the dialect's table, on embeddings of `load`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import fam_jax
import pretrained_ports
from pretrained_ports.checkpoints import Checkpoint, CheckpointError
from tests.ports.theirs import tensors


def load(name, **more):
    """The classifier of a file that holds these tensors beside the model's."""
    more = {key.replace("_", "."): array for key, array in more.items()}
    return pretrained_ports.load_classifier(
        name, Checkpoint(Path("mine.pth"), tensors(name) | more)
    )


@pytest.mark.parametrize(
    ("name", "layer", "width"),
    [("resnet18", "fc", 512), ("cifar-resnet20", "linear", 64), ("resnet12", "classifier", 640)],
)
def test_every_dialects_name_for_it(name, layer, width):
    weight = np.random.default_rng(0).normal(size=(7, width))
    bias = np.arange(7.0)
    kernel, offset = load(name, **{f"{layer}_weight": weight, f"{layer}_bias": bias})
    assert kernel.dtype == offset.dtype == jnp.float32
    np.testing.assert_array_equal(kernel, weight.T.astype(np.float32))
    np.testing.assert_array_equal(offset, bias)


def test_a_layer_without_bias_has_zeros():
    kernel, bias = load("cifar-resnet20", linear_weight=np.ones((10, 64)))
    assert kernel.shape == (64, 10)
    np.testing.assert_array_equal(bias, np.zeros(10))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, r"mine.pth \(dialect akamaster-cifar\) holds no classifier beside .* cifar-resnet20"),
        (
            {"linear_weight": np.ones((10, 32)), "linear_bias": np.ones(10)},
            r"not one linear layer on embeddings \[64\]: linear.weight \[10, 32\], linear.bias",
        ),
        ({"linear_bias": np.ones(10)}, r"not one linear layer .*: linear.bias \[10\]"),
        ({"linear_weight": np.full((10, 64), np.nan)}, "the classifier: .* not finite: kernel"),
        ({"conv1_extra": np.ones(3)}, "conv1.extra"),
    ],
    ids=["none", "another width", "only a bias", "not finite", "another file"],
)
def test_what_is_refused(more, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        load("cifar-resnet20", **more)
    assert "conv1_extra" in more or "\n" not in str(caught.value)


def test_a_name_that_does_not_exist():
    with pytest.raises(ValueError, match="no model 'resnet1'"):
        pretrained_ports.load_classifier("resnet1")


def test_real_photographs_are_classified_and_their_logits_mapped(assets):
    """CIFAR-10's ResNet-56 on cats, dogs and a bird from elsewhere: every class and logit right."""
    pytest.importorskip("torch")
    file = assets / "checkpoints/cifar-resnet/resnet56-4bfd9763.th"
    backbone = pretrained_ports.load("cifar-resnet56", file)
    kernel, bias = pretrained_ports.load_classifier("cifar-resnet56", file)
    pictures = {
        "imprinting_cat_train_0.bmp": 3,
        "imprinting_cat_test_0.bmp": 3,
        "imprinting_dog_train_0.bmp": 5,
        "imprinting_dog_test_0.bmp": 5,
        "bird.bmp": 2,
    }  # the class' number in CIFAR-10
    images = np.stack(
        [
            backbone.preprocess(Image.open(assets / "images/oneshot" / name).convert("RGB"))
            for name in pictures
        ]
    )
    encode = fam_jax.capture(backbone)
    enc = encode(images)
    logits = enc.embeddings @ kernel + bias[None]
    classes = jnp.array(list(pictures.values()))
    np.testing.assert_array_equal(logits.argmax(1), classes)
    assert jax.nn.softmax(logits).max(1).min() > 0.95
    maps = fam_jax.cam()(enc, fam_jax.classifier_rows(kernel, classes))
    np.testing.assert_allclose(maps.mean((1, 2)) + bias[classes], logits.max(1), rtol=1e-5)
