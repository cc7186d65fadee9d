import os

import jax
import pytest

os.environ["KERAS_BACKEND"] = "jax"  # Keras asks at its import


@pytest.fixture
def images():
    return jax.random.normal(jax.random.key(1), (2, 8, 12, 3))
