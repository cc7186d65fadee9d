"""Metrics give the numbers of pytorch-grad-cam and Quantus, on the same maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
from fam_jax import metrics
from fam_jax.metrics._impute import imputed

torch = pytest.importorskip("torch")
compare = pytest.importorskip("tests.parity.compare")
pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore"),  # what the other packages' imports say
]

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 24, 28, 3)).astype(np.float32)
REFERENCES = RNG.normal(size=(2, 5)).astype(np.float32)
WEIGHTS = RNG.normal(size=(24 * 28 * 3, 5)).astype(np.float32) / 40


def smooth_maps():
    """Blobs, so that what is removed hangs together; no two pixels the same."""
    coarse = RNG.normal(size=(2, 5, 6)).astype(np.float32)
    maps = np.asarray(fam_jax.upsample(coarse, (24, 28)))
    return maps + 1e-3 * RNG.random(maps.shape).astype(np.float32)


MAPS = smooth_maps()


@pytest.fixture(scope="module")
def tool():
    """pytorch-grad-cam's ROAD, without the noise."""
    compare.torch_side.import_torchvision()
    module = pytest.importorskip("pytorch_grad_cam.metrics.road")
    defaults = module.NoisyLinearImputer.__init__.__defaults__
    module.NoisyLinearImputer.__init__.__defaults__ = (0.0, *defaults[1:])
    yield module
    module.NoisyLinearImputer.__init__.__defaults__ = defaults


def test_imputation(tool):
    """Their sparse system, solved directly."""
    images = jnp.broadcast_to(IMAGES[:, None], (2, 3, 24, 28, 3))
    kept = np.stack([np.percentile(m, p) > m for m in MAPS for p in (10, 50, 90)])
    filled = imputed(images, jnp.asarray(~kept.reshape(2, 3, 24, 28)))
    impute = tool.NoisyLinearImputer(noise=0)
    for n in range(2):
        for k in range(3):
            image = torch.as_tensor(IMAGES[n]).permute(2, 0, 1)
            theirs = impute(image, torch.as_tensor(kept[3 * n + k].astype(np.float32)))
            np.testing.assert_allclose(filled[n, k], theirs.permute(1, 2, 0), atol=2e-5)


def test_road(tool):
    """Both orders at every percentile, and the combined score."""

    def network(x):
        return torch.tanh(x.permute(0, 2, 3, 1).flatten(1)) @ torch.as_tensor(WEIGHTS)

    def embed(x):
        return jnp.tanh(x.reshape(x.shape[0], -1)) @ WEIGHTS

    pairs = [torch.as_tensor(r) for r in REFERENCES]
    targets = [lambda z, r=r: torch.cosine_similarity(z, r, dim=0) for r in pairs]
    given = (torch.as_tensor(IMAGES).permute(0, 3, 1, 2), MAPS, targets, network)
    ours = (embed, IMAGES, REFERENCES, MAPS, jax.random.key(0))
    kinds = {"most": tool.ROADMostRelevantFirst, "least": tool.ROADLeastRelevantFirst}
    for order, kind in kinds.items():
        scores = metrics.road(*ours, order=order, noise=0.0)
        for k, p in enumerate((10, 20, 30, 40, 50, 60, 70, 80, 90)):
            theirs = kind(p)(*given, return_diff=False)
            np.testing.assert_allclose(scores[:, k], theirs, atol=1e-4)
    combined = metrics.road_combined(*ours, noise=0.0)
    np.testing.assert_allclose(combined, tool.ROADCombined()(*given), atol=1e-4)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (metrics.energy_in, "RelevanceMassAccuracy"),
        (metrics.rank_in, "RelevanceRankAccuracy"),
        (metrics.pointing, "PointingGame"),
    ],
)
def test_localisation(ours, theirs):
    """Quantus, told to leave the maps as they are; negative mass only we leave out of the sum."""
    compare.torch_side.import_torchvision()
    quantus = pytest.importorskip("quantus")
    maps = RNG.random((6, 1, 9, 11)).astype(np.float32)
    masks = np.zeros(maps.shape, bool)
    for n in range(6):
        masks[n, 0, n : n + 4, 2 : 6 + n] = True
    metric = getattr(quantus, theirs)(
        abs=False, normalise=False, disable_warnings=True, display_progressbar=False
    )
    expected = metric.evaluate_batch(a_batch=maps, s_batch=masks)
    values = ours(maps[:, 0], masks[:, 0])
    np.testing.assert_allclose(values, np.asarray(expected, np.float32), rtol=1e-5)
    assert len(set(np.asarray(values).tolist())) > 1
