"""The examples run as their first lines say, in their quick form; their losses are the papers'."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pretrained_ports.checkpoints import read
from tests.close import assert_close
from tests.run_example import EXAMPLES, run_example

pytest.importorskip("skimage", reason="needs the demo extra: scikit-image and scikit-learn")
pytest.importorskip("optax", reason="needs the train extra")


@pytest.fixture
def run(monkeypatch, capsys):
    return functools.partial(run_example, monkeypatch, capsys)


def test_the_mosaic_game_prints_its_table(run):
    assert "swap correlation" in run("mosaic_game.py", "--quick")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "name"),
    [
        ("train_self_supervised.py", "--method moco --network vit-mini-patch8", "vit-mini-patch8"),
        ("train_metric.py", "--loss triplet", "tiny"),
    ],
)
def test_a_training_writes_what_loads_as_it_says(run, tmp_path, script, options, name):
    """The script compares the loaded network's embeddings with its own before it says so."""
    file = tmp_path / "quick.safetensors"
    output = run(script, *options.split(), "--quick", "--out", file)
    assert "64 channels, signed" in output
    metadata = read(file).metadata
    assert metadata["architecture"] == name
    assert metadata["trained_by"].startswith(f"examples/{script} {options}")
    assert metadata["figures"] in output


@pytest.mark.slow
def test_few_shot_training_writes_what_loads_as_it_says(run, tmp_path, assets):
    file = tmp_path / "quick.safetensors"
    data = assets / "images" / "omniglot"
    output = run("train_few_shot.py", "--data", data, "--quick", "--out", file)
    assert "20-way one-shot accuracy" in output
    assert "64 channels, never negative" in output
    assert read(file).metadata["architecture"] == "conv4-omniglot-pooled"


@pytest.fixture
def scripts(monkeypatch):
    """The folder of the examples, as Python sees it when it runs one of them."""
    monkeypatch.syspath_prepend(EXAMPLES)


LABELS = np.array([0, 0, 1, 1, 2, 2, 2])


@pytest.fixture
def points(x64):
    z = np.random.default_rng(0).standard_normal((len(LABELS), 3))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_the_triplet_loss_is_the_mean_over_violated_triplets(scripts, points):
    import train_metric

    distance = ((points[:, None] - points[None]) ** 2).sum(2)
    terms = [
        distance[a, p] - distance[a, n] + train_metric.MARGIN
        for a, p, n in np.ndindex(7, 7, 7)
        if a != p and LABELS[a] == LABELS[p] != LABELS[n]
    ]
    violated = [term for term in terms if term > 0]
    assert 0 < len(violated) < len(terms)
    given = train_metric.triplet(jnp.asarray(points), jnp.asarray(LABELS), None)
    assert_close(given, np.mean(violated), rtol=1e-12)


def test_the_proxy_loss_is_that_of_the_paper(scripts, points):
    """Equation 4 of Kim et al. (2020), by loops."""
    import train_metric

    proxies = np.random.default_rng(1).standard_normal((3, 3))
    scale, slack = train_metric.SCALE, train_metric.SLACK
    total = 0
    for label, vector in enumerate(proxies / np.linalg.norm(proxies, axis=1, keepdims=True)):
        own, others = points[label == LABELS] @ vector, points[label != LABELS] @ vector
        total += np.log1p(np.exp(-scale * (own - slack)).sum()) / 3
        total += np.log1p(np.exp(scale * (others + slack)).sum()) / 3
    of = lambda z: train_metric.proxy(z, jnp.asarray(LABELS), jnp.asarray(proxies))  # noqa: E731
    given, gradient = jax.value_and_grad(of)(jnp.asarray(points))
    assert_close(given, total, rtol=1e-12)
    assert jnp.isfinite(gradient).all()


def test_the_supervised_contrastive_loss_is_a_softmax_over_all_others(scripts, points):
    import train_metric

    logits = points @ points.T / train_metric.TEMPERATURE
    terms = []
    for i, j in np.argwhere(LABELS[:, None] == LABELS[None]):
        if i != j:
            others = np.delete(logits[i], i)
            terms.append(np.log(np.exp(others).sum()) - logits[i, j])
    given = train_metric.supcon(jnp.asarray(points), jnp.asarray(LABELS), None)
    assert_close(given, np.mean(terms), rtol=1e-12)


def test_a_batch_of_digits_has_the_labels_that_it_says(scripts):
    """By the nearest held-out drawing in pixels, which is right for most of them."""
    import train_metric

    data = train_metric.Digits()
    pictures, labels = jax.jit(data.batch)(jax.random.key(0))
    flat = lambda x: np.asarray(x, "f")[:, ::4, ::4, 0].reshape(len(x), -1)  # noqa: E731
    distances = ((flat(pictures)[:, None] - flat(data.held_out)[None]) ** 2).mean(2)
    assert np.mean(data.held_out_labels[distances.argmin(1)] == labels) > 0.7


@pytest.fixture
def online(scripts, x64):
    """A learner whose network is one linear layer, in float64."""
    import train_self_supervised

    class Online(nnx.Module):
        def __init__(self):
            kind = {"param_dtype": jnp.float64, "rngs": nnx.Rngs(0)}
            self.network = nnx.Linear(5, train_self_supervised.CHANNELS, **kind)
            self.predictor = nnx.Linear(64, 64, **kind)

    return Online()


VIEWS = tuple(np.random.default_rng(0).normal(size=(2, 4, 5)))
PHOTOS = np.array([0, 0, 1, 1], np.int32)


def unit(x):
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def units(x):
    return np.asarray(unit(x))


def test_moco_is_a_softmax_against_the_queue_of_other_photographs(online):
    import train_self_supervised as ssl

    momentum = ssl.Momentum(online, batch=4, method="moco")
    momentum.labels[...] = jnp.arange(len(momentum.labels[...]), dtype=jnp.int32) % 3
    queue, labels = np.asarray(momentum.queue[...]), np.asarray(momentum.labels[...])
    keys = units(online.network(VIEWS[1]))  # the copy is the network itself so far
    terms = []
    for query, photo in zip(units(online.network(VIEWS[0])), PHOTOS, strict=True):
        for key in keys[photo == PHOTOS]:
            logits = np.array([query @ key, *(queue[labels != photo] @ query)]) / ssl.TEMPERATURE
            terms.append(np.log(np.exp(logits).sum()) - logits[0])
    given = ssl.moco(online, momentum, VIEWS, PHOTOS)
    assert_close(given, np.mean(terms), rtol=1e-12)
    assert_close(momentum.queue[...], [*keys, *queue[:-4]], rtol=1e-12)
    np.testing.assert_array_equal(momentum.labels[...], [*PHOTOS, *labels[:-4]])


def test_the_momentum_encoder_follows_and_gives_no_gradient(online):
    """BYOL's gradient is that with fixed targets; the copy moves by 1 - MOMENTUM of the way."""
    import train_self_supervised as ssl

    momentum = ssl.Momentum(online, batch=4, method="byol")
    start = momentum.slow.kernel[...] + 1
    momentum.slow.kernel[...] = start
    follows = ssl.MOMENTUM * start + (1 - ssl.MOMENTUM) * online.network.kernel[...]
    _, gradient = nnx.value_and_grad(ssl.byol)(online, momentum, VIEWS, PHOTOS)
    assert_close(momentum.slow.kernel[...], follows, rtol=1e-12)

    targets = unit(jnp.concatenate(VIEWS[::-1]) @ follows + online.network.bias[...][None])
    pairs = [(i, j) for i in range(8) for j in range(8) if i // 2 == j // 2]  # photograph and view
    first, second = np.array(pairs).T

    def fixed(online):
        predicted = unit(online.predictor(online.network(jnp.concatenate(VIEWS))))
        return jnp.mean(jnp.sum((predicted[first] - targets[second]) ** 2, axis=1)) / 2

    expected = nnx.grad(fixed)(online)
    for got, wanted in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        assert_close(got, wanted, rtol=1e-12)


def test_simclr_asks_for_the_photograph_among_others(online):
    import train_self_supervised as ssl

    z, photos = units(online.network(jnp.concatenate(VIEWS))), np.tile(PHOTOS, 2)
    terms = []
    for i, j in np.argwhere(photos[:, None] == photos[None]):
        if i != j:
            rivals = z[photos != photos[i]] @ z[i] / ssl.TEMPERATURE
            positive = z[i] @ z[j] / ssl.TEMPERATURE
            terms.append(np.log(np.exp(positive) + np.exp(rivals).sum()) - positive)
    given = ssl.simclr(online, None, VIEWS, PHOTOS)
    assert_close(given, np.mean(terms), rtol=1e-12)


@pytest.mark.slow
def test_a_volume_is_explained_and_drawn(run, tmp_path):
    pytest.importorskip("nilearn", reason="needs pip install nilearn: the MNI152 template")
    output = run("volume.py", "--quick", "--out", tmp_path)
    for name in ("contrastive", "nmf_concepts", "chance 0.125"):
        assert name in " ".join(output.split())
    assert (tmp_path / "volume.png").exists()


@pytest.mark.slow
def test_eeg_is_explained_as_a_signal_and_as_its_spectrogram(run, tmp_path, assets):
    data = assets / "signals" / "eeg-eye-state" / "eeg_eye_state.csv"
    output = run("eeg.py", "--data", data, "--quick", "--out", tmp_path)
    assert output.count("balanced accuracy on held-out blocks") == 2
    pictures = ("signal-query", "signal-reference", "spectrogram")
    assert all((tmp_path / f"{name}.png").exists() for name in pictures)


def test_eighths_of_a_mosaic_are_the_cells_that_the_pieces_lie_in(scripts):
    import volume

    pieces = np.arange(8).repeat(volume.CELL**3).reshape(1, 8, *[volume.CELL] * 3, 1)
    laid = np.asarray(volume.mosaic(jnp.asarray(pieces[0])))[..., 0]
    for number in range(8):
        np.testing.assert_array_equal(volume.eighths(np.array([number]), 32)[0], laid == number)


@pytest.mark.slow
def test_a_point_cloud_is_explained_and_drawn(run, tmp_path):
    pytest.importorskip("nilearn", reason="needs pip install nilearn: the cortex")
    output = run("point_cloud.py", "--quick", "--out", tmp_path)
    for name in ("contrastive", "nmf_concepts", "chance 0.125"):
        assert name in " ".join(output.split())
    assert (tmp_path / "point_cloud.png").exists()
