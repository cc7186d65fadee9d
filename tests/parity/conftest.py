import pytest


@pytest.fixture(autouse=True)
def same_random_weights_every_time():
    """PyTorch's initial weights are drawn when a model is built."""
    pytest.importorskip("torch").manual_seed(0)
