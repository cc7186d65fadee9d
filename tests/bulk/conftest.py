import pytest

from fam_jax import bulk
from tests.bulk import toy


@pytest.fixture
def job(tmp_path):
    """A table of 11 pairs, not a multiple of anything, and a way to run it."""
    table = toy.table(tmp_path / "in", 11, images=5)

    def run(name="store", pairs=table, preprocess=None, **options):
        options = {"batch": 2, "dtype": "float32", **options}
        preprocess = preprocess or toy.Preprocess()
        done = bulk.run(toy.encoder(), pairs, tmp_path / name, preprocess=preprocess, **options)
        return done, bulk.open_store(tmp_path / name)

    return run
