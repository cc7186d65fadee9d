from pathlib import Path

import numpy as np
import pytest

from fam_jax import report
from tests.report import stand_in


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    pytest.importorskip("skimage", reason="the photographs need scikit-image")
    return stand_in.save_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def store(files):
    return stand_in.store_of(files, 12)


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory) -> Path:
    """Twelve pairs: one invalid without a score, one picture gone, one with a name of its own."""
    folder = tmp_path_factory.mktemp("few")
    store = stand_in.store_of(files, 12)
    nan = np.full((7, 7), np.nan, np.float32)
    store = store.but(
        5, status=2, reason="no embedding", score=float("nan"), query_map=nan, reference_map=nan
    )
    store = store.but(8, reference="gone.jpg").but(3, id="Café au lait", label="odd one")
    report.write(store, folder)
    return folder
