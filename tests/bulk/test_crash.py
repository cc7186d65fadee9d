"""Killed at any moment and started again, a job ends in the store of a job that was not."""

import random
import time

import pytest

from tests.bulk import toy
from tests.bulk.job import main

BATCH = 4


@pytest.fixture(scope="module", params=[3, pytest.param(20, marks=pytest.mark.slow)])
def kills(request):
    """How often: of three, one each while the job starts, in its first and in its second step."""
    return request.param


@pytest.fixture(scope="module")
def rows(kills):
    """Not a multiple of anything, and too many to be done when the last kill comes.

    Between two kills each of two processes does at most six steps.
    """
    return 2 * 6 * BATCH * kills + 3


@pytest.fixture(scope="module")
def pairs(rows, tmp_path_factory):
    return toy.table(tmp_path_factory.mktemp("pictures"), rows)


@pytest.fixture(scope="module")
def whole(pairs, tmp_path_factory):
    """The store of a job that nothing happened to, on one device."""
    folder = tmp_path_factory.mktemp("whole")
    finish([toy.Job(main, pairs, folder / "store", folder / "log")])
    return toy.files(folder / "store")


def finish(jobs):
    """Wait for all; what each returned."""
    try:
        return [job.result() for job in jobs]
    finally:
        for job in jobs:
            job.kill()


def steps(log):
    return len(log.read_text().splitlines()) if log.exists() else 0


def kill_at_random_points(start, log_of, kills):
    """Start and kill; a kill comes while the job starts, or at any moment of its first steps."""
    rng = random.Random(0)
    killed = 0
    while killed < kills:
        log = log_of(0)
        before, aim = steps(log), killed % 3
        jobs = start()
        deadline = time.monotonic() + 120
        while steps(log) < before + aim and all(job.alive() for job in jobs):
            time.sleep(0.005)
            assert time.monotonic() < deadline
        moment = time.monotonic() + rng.random() * (0.1 if aim else 1.0)
        while time.monotonic() < moment and steps(log) < before + aim + 3:
            time.sleep(0.005)
        alive = [job.alive() for job in jobs]
        for job in jobs:
            job.kill()
        assert any(alive), "the job was done before it could be killed"
        killed += 1


def test_kills(pairs, rows, kills, whole, tmp_path):
    """At most one finished batch is lost by a kill; the store is the same, bit for bit."""
    store, log = tmp_path / "store", tmp_path / "log"

    def start():
        return [toy.Job(main, pairs, store, log, PAUSE="0.03")]

    kill_at_random_points(start, lambda process: log, kills)
    finish(start())
    batches = -(-rows // BATCH)
    assert batches <= steps(log) <= batches + kills
    assert toy.files(store) == whole


@pytest.mark.slow
@pytest.mark.parametrize("kills", [5], indirect=True)
def test_kills_of_a_job_that_keeps_features(pairs, kills, tmp_path):
    """While pictures are encoded once, and while their features are used; nothing of them stays."""
    finish([toy.Job(main, pairs, tmp_path / "whole", tmp_path / "log", ONCE="1")])
    store, log = tmp_path / "store", tmp_path / "killed"

    def start():
        return [toy.Job(main, pairs, store, log, PAUSE="0.03", ONCE="1")]

    kill_at_random_points(start, lambda process: log, kills)
    finish(start())
    assert steps(log) <= steps(tmp_path / "log") + kills
    assert toy.files(store) == toy.files(tmp_path / "whole")
    assert not (store / "features").exists()


def test_two_processes_write_what_one_does(pairs, rows, whole, tmp_path):
    """Of four devices each, with gloo between them."""
    port, store = toy.free_port(), tmp_path / "store"
    jobs = [
        toy.Job(main, pairs, store, tmp_path / f"log{i}", port, i, 2, devices=4) for i in range(2)
    ]
    assert finish(jobs)[-1] == (rows, 0, 8)
    assert toy.files(store) == whole


@pytest.mark.slow
@pytest.mark.parametrize("kills", [20], indirect=True)
def test_kills_of_two_processes(pairs, rows, kills, whole, tmp_path):
    store = tmp_path / "store"
    log_of = lambda i: tmp_path / f"log{i}"  # noqa: E731

    def start():
        port = toy.free_port()
        return [
            toy.Job(main, pairs, store, log_of(i), port, i, 2, devices=1, PAUSE="0.03")
            for i in range(2)
        ]

    kill_at_random_points(start, log_of, kills)
    finish(start())
    # Of the very last step, one process may have had nothing but padding.
    assert steps(log_of(0)) + steps(log_of(1)) <= -(-rows // BATCH) + 2 * kills + 1
    assert toy.files(store) == whole
