"""No picture, program or finished job is computed twice, and devices exchange nothing."""

from typing import ClassVar

import pytest

import fam_jax
from fam_jax import bulk
from fam_jax.bulk._pictures import PictureLoader
from fam_jax.bulk._programs import DeviceProgram
from tests.bulk import toy
from tests.programs import collectives


class Counting(PictureLoader):
    """Counts the pictures that are decoded, by name."""

    decodings: ClassVar[dict[str, int]] = {}

    def __call__(self, path):
        if path:
            Counting.decodings[path] = Counting.decodings.get(path, 0) + 1
        return super().__call__(path)


def counted(monkeypatch):
    Counting.decodings = {}
    monkeypatch.setattr("fam_jax.bulk._run.PictureLoader", Counting)
    return Counting.decodings


def test_each_picture_is_decoded_and_encoded_once_in_a_batch(job, monkeypatch):
    """One query with many references: a chunk has one picture more than pairs."""
    decoded = counted(monkeypatch)
    _, first = job("names")
    names = sorted({row.query for row in first.rows(range(11))})
    decoded.clear()
    images_encoded = []
    features = fam_jax.Encoder.features
    monkeypatch.setattr(
        fam_jax.Encoder,
        "features",
        lambda self, x: images_encoded.append(x.shape[0]) or features(self, x),
    )
    job(pairs=[(names[0], name) for name in names[1:] * 4], batch=4)
    assert decoded[names[0]] == 4  # of four chunks
    assert set(images_encoded) == {2, 5}  # the shapes of the check beforehand, and of a chunk


def test_each_picture_is_decoded_once_in_a_job_of_all_pairs(job, tmp_path, monkeypatch):
    decoded = counted(monkeypatch)
    paths = toy.pictures(tmp_path / "p", 6)
    job(pairs=bulk.grid(paths, paths, 4), batch=4)
    assert decoded == dict.fromkeys(paths, 1)


def test_a_finished_job_does_nothing_again(job, tmp_path, monkeypatch):
    job()
    before = toy.files(tmp_path / "store")
    decoded = counted(monkeypatch)
    done, _ = job()
    assert (done.pairs, done.phases, decoded) == (11, (), {})
    assert toy.files(tmp_path / "store") == before


@pytest.mark.parametrize("once", [False, True])
def test_one_compilation_for_the_whole_job(job, monkeypatch, once):
    """Of each program: full, incomplete and padded steps are of one shape."""
    rows, made = toy.rows(job, 37), []

    class Kept(DeviceProgram):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    for module in ("_run", "_features"):
        monkeypatch.setattr(f"fam_jax.bulk.{module}.DeviceProgram", Kept)
    job(pairs=rows, once=once)
    assert [program.compiled._cache_size() for program in made] == [1] * len(made)
    assert len(made) == 1 + once


def test_no_communication_between_devices(job, monkeypatch):
    """The program of a step has no collective in it."""
    texts = []

    class Compiled(DeviceProgram):
        def __call__(self, inputs):
            lowered = self.compiled.lower(self.parameters, self.put(inputs))
            texts.append(lowered.compile().as_text())
            return super().__call__(inputs)

    monkeypatch.setattr("fam_jax.bulk._run.DeviceProgram", Compiled)
    job()
    assert texts
    assert not collectives(texts[0])


def test_progress_counts_every_row(job):
    progress = []
    job(on_step=progress.append)
    assert [p.done for p in progress] == [11]  # eight devices take six chunks at once
    assert (progress[-1].total, progress[-1].computed, progress[-1].invalid) == (11, 11, 0)
