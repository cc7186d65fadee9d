"""A small network that the app has opened, and pictures for it."""

from functools import partial

import pytest

from fam_jax.apps.live import opened as opening
from fam_jax.apps.network import open_network

# Of every kind: default, baseline, of a background, of many passes, of another kind of network.
METHODS = ("fam", "decomposition", "contrastive", "random", "occlusion", "le-grad")


@pytest.fixture(scope="module")
def opened():
    """`tiny` at 32 pixels."""
    return opening.open_(open_network("tiny", image_size=32), METHODS)


@pytest.fixture
def picture(inputs, opened):
    """One of the four pictures by its letter, as if it had been uploaded."""
    names = {"a": "a.png", "b": "b.png", "c": "more/c.png", "d": "more/d.png"}
    return lambda letter: opened.read(inputs / "some" / names[letter])


@pytest.fixture
def background(inputs, opened):
    """Two other pictures."""
    return partial(opened.background, sorted((inputs / "some" / "more").iterdir()))
