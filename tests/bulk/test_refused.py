"""What a job refuses, and the rows that it cannot explain."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import fam_jax
from fam_jax import bulk
from tests.bulk import toy


def test_a_store_of_another_job_is_refused_with_the_difference(job, tmp_path):
    job()
    before = toy.files(tmp_path / "store")
    with pytest.raises(ValueError, match=r"\(batch: 2 there, 4 now\); take another --out"):
        job(batch=4)
    with pytest.raises(ValueError, match=r"method: Method\(.* there, Method\(.* now\)"):
        job(method=fam_jax.decomposition())
    with pytest.raises(ValueError, match="parameters_sha256"):
        job(method=fam_jax.contrastive(jnp.ones((2, 5))))
    assert toy.files(tmp_path / "store") == before


def test_a_folder_of_something_else_is_left_alone(job, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match=r"is no store and not empty: it holds thesis\.tex"):
        job()
    assert toy.files(tmp_path / "store") == {"thesis.tex": b"mine"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int4"}, "dtype: expected one of float16, uint8, float32"),
        ({"batch": 0}, "batch"),
        ({"size": 0}, "size"),
        ({"preprocess": lambda picture: np.zeros(3)}, r"pictures \[H, W, c\], got shape \(3,\)"),
    ],
)
def test_wrong_options(job, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        job(**options)
    assert not (tmp_path / "store").exists()


def test_pictures_of_another_size_make_their_rows_invalid(job, tmp_path):
    """A preprocess that does not give one shape for all."""

    def preprocess(picture):
        return np.asarray(picture.resize((16, 16 if picture.width != 40 else 32)), np.float32)

    paths = toy.pictures(tmp_path / "p", 2)
    Image.new("RGB", (40, 40)).save(tmp_path / "p" / "wide.png")
    pairs = [(paths[0], paths[1]), (paths[0], str(tmp_path / "p" / "wide.png"))]
    done, store = job(pairs=pairs, preprocess=preprocess)
    assert done.invalid == 1
    assert "preprocess gave (32, 16, 3) where others have (16, 16, 3)" in store.rows([1])[0].reason


def test_what_is_no_encoder_or_no_method_is_refused(job, tmp_path, unchecked):
    options = {"preprocess": toy.Preprocess()}
    with pytest.raises(TypeError, match=r"encode: expected fam_jax.capture\(model, at=.*\)"):
        bulk.run(lambda x: x, [("a", "b")], tmp_path / "s", **options)
    with pytest.raises(TypeError, match="method: expected a Method such as fam"):
        bulk.run(toy.encoder(), [("a", "b")], tmp_path / "s", method="fam", **options)
