"""Resampled positions are those of PyTorch's bicubic methods."""

import jax.numpy as jnp
import numpy as np
import pytest

from pretrained_ports.models.positions import Resampling, resample

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("to", [(3, 3), (14, 20), (37, 9), (5, 16), (1, 1), (15, 14)])
def test_positions(x64, antialias, to):
    """Both bicubic methods of PyTorch, shrinking and growing, to other aspects."""
    given = np.random.default_rng(0).standard_normal((1, 14 * 14, 6))
    grid = torch.as_tensor(given).view(1, 14, 14, 6).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(grid, size=to, mode="bicubic", antialias=antialias)
    expected = expected.permute(0, 2, 3, 1).reshape(1, -1, 6).numpy()
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-6)):
        positions = jnp.asarray(given, dtype)
        resampled = resample(positions, (14, 14), to, Resampling(antialias))
        assert resampled.dtype == dtype
        assert np.abs(np.asarray(resampled) - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("to", [(7, 7), (16, 34), (60, 37)])
def test_positions_with_an_offset(x64, to):
    """The 0.1 that DINO adds to the factor moves every sample."""
    given = np.random.default_rng(0).standard_normal((1, 37 * 37, 6))
    grid = torch.as_tensor(given).view(1, 37, 37, 6).permute(0, 3, 1, 2)
    factor = tuple((side + 0.1) / 37 for side in to)
    expected = torch.nn.functional.interpolate(grid, scale_factor=factor, mode="bicubic")
    assert expected.shape[2:] == to
    expected = expected.permute(0, 2, 3, 1).reshape(1, -1, 6).numpy()
    resampled = resample(jnp.asarray(given), (37, 37), to, Resampling(False, 0.1))
    np.testing.assert_allclose(resampled, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    plain = resample(jnp.asarray(given), (37, 37), to, Resampling(False))
    assert np.abs(plain - expected).max() > 1e-4
