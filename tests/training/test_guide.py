"""docs/training.md names every function there is."""

import re

import pytest

import fam_jax
from tests.documents import ROOT

pytest.importorskip("tensorboardX", reason="needs the train extra")

GUIDE = (ROOT / "docs" / "training.md").read_text()


def test_every_public_name_is_there():
    names = [name for name in dir(fam_jax.training) if not name.startswith("_")]
    public = [name for name in names if callable(getattr(fam_jax.training, name))]
    assert " ".join(public) == "MapLogger crop disagreement energy_outside strip total_variation"
    for name in public:
        assert re.search(rf"\b{name}\(", GUIDE), name
