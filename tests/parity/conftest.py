import functools

import pytest


@pytest.fixture(autouse=True)
def same_random_weights_every_time():
    """PyTorch's initial weights are drawn when a model is built."""
    pytest.importorskip("torch").manual_seed(0)


@pytest.fixture
def check_vit(monkeypatch, tmp_path, record_property):
    """Compares a PyTorch model with a small one of the zoo's kind."""
    small = pytest.importorskip("tests.parity.torch_small_vit")
    file = tmp_path / "random.pth"
    return functools.partial(
        small.check, monkeypatch=monkeypatch, file=file, record=record_property
    )
