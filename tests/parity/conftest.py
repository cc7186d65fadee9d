import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def torch_models():
    """The module beside this file; it needs torch, so it is imported only where that is there."""
    pytest.importorskip("torch")
    path = Path(__file__).with_name("torch_models.py")
    spec = importlib.util.spec_from_file_location("torch_models", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def same_random_weights_every_time():
    """PyTorch's initial weights are drawn when a model is built."""
    pytest.importorskip("torch").manual_seed(0)
