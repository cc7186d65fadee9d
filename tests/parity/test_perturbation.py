"""Occlusion, Score-CAM and LOTS against PyTorch's tools, with the same small network."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from tests.explained import explained

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
pytestmark = pytest.mark.parity

SIZE = (12, 16)


class Network(torch.nn.Module):
    def __init__(self, kernel, matrix):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 6, 2, stride=2, bias=False, dtype=torch.float64)
        self.layer.weight.data = torch.as_tensor(kernel).permute(3, 2, 0, 1)
        self.matrix = torch.as_tensor(matrix)

    def forward(self, images):
        return torch.tanh(self.layer(images)).mean((2, 3)) @ self.matrix


class Target:
    """The score of one embedding, as pytorch-grad-cam asks for it."""

    def __init__(self, reference):
        self.reference = reference

    def __call__(self, embedding):
        return torch.cosine_similarity(embedding, self.reference, dim=0)


@pytest.fixture
def both(x64):
    """The network and its pictures on both sides, in float64."""
    rng = np.random.default_rng(0)
    kernel, matrix = rng.normal(size=(2, 2, 3, 6)), rng.normal(size=(6, 5))
    images, references = rng.normal(size=(2, *SIZE, 3)), rng.normal(size=(2, 5))

    def features(images):
        b, h, w, c = images.shape
        blocks = images.reshape(b, h // 2, 2, w // 2, 2, c)
        return jnp.einsum("byixjc,ijck->byxk", blocks, jnp.asarray(kernel))

    encode = fam_jax.encoder(features, lambda A: jnp.tanh(A).mean((1, 2)) @ jnp.asarray(matrix))
    return SimpleNamespace(
        ours=(encode, jnp.asarray(images), jnp.asarray(references)),
        network=Network(kernel, matrix).eval(),
        images=torch.as_tensor(images).permute(0, 3, 1, 2),
        references=torch.as_tensor(references),
    )


def agree(maps, theirs, tolerance, record_property):
    maps, theirs = np.asarray(maps), np.asarray(theirs)
    assert maps.shape == theirs.shape
    assert np.abs(theirs).max() > 0
    difference = float(np.abs(maps - theirs).max() / np.abs(theirs).max())
    record_property("difference", difference)
    assert difference <= tolerance


@pytest.mark.parametrize("fill", [0.0, 0.7])
def test_occlusion_is_captums(both, record_property, fill):
    captum = pytest.importorskip("captum.attr")

    def score(images, references):
        return torch.cosine_similarity(both.network(images), references)

    theirs = captum.Occlusion(score).attribute(
        both.images,
        sliding_window_shapes=(3, 4, 6),
        strides=(3, 2, 5),
        baselines=fill,
        additional_forward_args=both.references,
    )
    maps = explained(fam_jax.occlusion(window=(4, 6), stride=(2, 5), fill=fill), *both.ours)
    # Captum adds its drops up in float32.
    agree(maps, theirs[:, 0].detach(), 1e-6, record_property)


def test_score_cam_is_pytorch_grad_cams(both, record_property, monkeypatch):
    """With its interpolation exchanged for ours: it aligns the corners of maps and pictures."""
    compare.import_torchvision()
    tool = pytest.importorskip("pytorch_grad_cam")

    def half_pixel(size):
        return lambda maps: torch.nn.functional.interpolate(maps, size, mode="bilinear")

    monkeypatch.setattr(torch.nn, "UpsamplingBilinear2d", half_pixel)

    class Noting(tool.ScoreCAM):
        def get_cam_image(self, *args, **options):
            self.raw = super().get_cam_image(*args, **options)
            return self.raw

    with Noting(both.network, [both.network.layer]) as cam:
        cam(both.images, [Target(r) for r in both.references])
    # Its scores end in float32, and its masks are damped by 1e-8.
    agree(explained(fam_jax.score_cam(), *both.ours), np.maximum(cam.raw, 0), 1e-6, record_property)


@pytest.mark.parametrize("toward", [False, True])
def test_lots_is_the_loop_in_pytorch(both, record_property, toward):
    """Gradients by autograd, grey and blur by torchvision; a picture of few pixels, kernel 9."""
    x = both.images.clone()
    for _ in range(10):
        x.requires_grad_()
        score = torch.cosine_similarity(both.network(x), both.references).sum()
        (gradient,) = torch.autograd.grad(score if toward else -score, x)
        x = (x + gradient / gradient.abs().amax((1, 2, 3), keepdim=True) / 50).detach()
    functional = compare.import_torchvision().transforms.functional
    grey = [functional.rgb_to_grayscale(images) for images in (x, both.images)]
    theirs = functional.gaussian_blur((grey[0] - grey[1]).abs(), 9)[:, 0]
    maps = explained(fam_jax.lots(toward=toward, steps=10, rate=1 / 50, kernel=9), *both.ours)
    agree(maps, theirs, 1e-6, record_property)
