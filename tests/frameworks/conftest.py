import jax
import pytest


@pytest.fixture
def images():
    return jax.random.normal(jax.random.key(1), (2, 8, 12, 3))
