"""Real checkpoints: read whole, and as accurate as their authors say."""

import io
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

import pretrained_ports

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity


@pytest.mark.parametrize(
    ("name", "file"),
    [("cifar-resnet20", "resnet20-12fca82f.th"), ("cifar-resnet56", "resnet56-4bfd9763.th")],
)
def test_cifar_resnet_converts_with_no_key_left_over(assets, name, file):
    report = pretrained_ports.load(name, assets / "checkpoints/cifar-resnet" / file).report
    assert report.fits
    assert report.dialect == "akamaster-cifar"
    assert report.unwrapped == ("state_dict", "module.")
    assert set(report.ignored) == {"best_prec1", "linear.weight", "linear.bias"}


def test_mini_imagenet_conv4_is_float64_and_is_cast(assets):
    file = assets / "checkpoints/protonet-conv4/miniimagenet_5shot.pth"
    backbone = pretrained_ports.load("conv4", file)
    assert backbone.preprocess.size == (84, 84)
    assert backbone.embedding_dim == 1600
    assert backbone.model.block1.conv.kernel.dtype == np.float32


def test_conv4_reaches_its_accuracy_on_omniglot(assets, record_property):
    """20 runs of 20-way one-shot classification: nearest support by Euclidean distance."""
    file = assets / "checkpoints/protonet-conv4/omniglot_20way_1shot.pth"
    backbone = pretrained_ports.load("conv4", file)
    assert backbone.preprocess.channels == 1
    assert backbone.embedding_dim == 64
    embed = jax.jit(backbone.model)

    correct = []
    with zipfile.ZipFile(assets / "images/omniglot/all_runs.zip") as runs:

        def embeddings(names):
            pictures = [Image.open(io.BytesIO(runs.read(name))) for name in names]
            return np.asarray(embed(np.stack([backbone.preprocess(p) for p in pictures])))

        for run in range(1, 21):
            pairs = runs.read(f"run{run:02d}/class_labels.txt").decode().split()
            queries, answers = pairs[::2], pairs[1::2]
            support = sorted(answers)
            distances = np.linalg.norm(
                embeddings(queries)[:, None] - embeddings(support)[None], axis=-1
            )
            correct += [support[i] == a for i, a in zip(distances.argmin(1), answers, strict=True)]
    accuracy = 100 * np.mean(correct)
    record_property("omniglot accuracy", float(accuracy))
    assert len(correct) == 400
    assert accuracy == pytest.approx(93.5, abs=0.5)
