"""Killed at any moment and started again, a job ends in the store of a job that was not."""

import random
import signal
import time
from pathlib import Path

import pytest

from tests.bulk import toy

JOB = Path(__file__).parent / "job.py"
PAIRS, BATCH, KILLS = 403, 4, 20


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return toy.table(tmp_path_factory.mktemp("pictures"), PAIRS)


@pytest.fixture(scope="module")
def whole(pairs, tmp_path_factory):
    """The store of a job that nothing happened to, on one device."""
    folder = tmp_path_factory.mktemp("whole")
    finish([toy.start(JOB, pairs, folder / "store", folder / "log")])
    return toy.files(folder / "store")


def finish(processes):
    """Wait for all; what the last one printed."""
    try:
        for process in processes:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
    finally:
        for process in processes:
            process.kill()
    return out


def steps(log):
    return len(log.read_text().splitlines()) if log.exists() else 0


def kill_at_random_points(start, log_of, store, kills):
    """Start and kill; a kill comes after some steps of this run, at any moment within one."""
    rng = random.Random(0)
    killed = 0
    while killed < kills:
        log = log_of(0)
        before, aim = steps(log), rng.randint(0, 2)
        processes = start()
        deadline = time.monotonic() + 120
        while steps(log) < before + aim and all(p.poll() is None for p in processes):
            time.sleep(0.002)
            assert time.monotonic() < deadline
        time.sleep(rng.random() * (0.1 if aim else 3.0))
        alive = [p for p in processes if p.poll() is None]
        for process in alive:
            process.send_signal(signal.SIGKILL)
        for process in processes:
            process.communicate()
        assert alive, "the job was done before it could be killed"
        killed += 1


def test_twenty_kills(pairs, whole, tmp_path):
    """At most one finished batch is lost by a kill; the store is the same, bit for bit."""
    store, log = tmp_path / "store", tmp_path / "log"
    start = lambda: [toy.start(JOB, pairs, store, log, PAUSE="0.03")]  # noqa: E731
    kill_at_random_points(start, lambda process: log, store, KILLS)
    finish(start())
    batches = -(-PAIRS // BATCH)
    assert batches <= steps(log) <= batches + KILLS
    assert toy.files(store) == whole


def test_kills_of_a_job_that_keeps_features(pairs, tmp_path):
    """While pictures are encoded once, and while their features are used; nothing of them stays."""
    finish([toy.start(JOB, pairs, tmp_path / "whole", tmp_path / "log", ONCE="1")])
    store, log = tmp_path / "store", tmp_path / "killed"
    start = lambda: [toy.start(JOB, pairs, store, log, PAUSE="0.03", ONCE="1")]  # noqa: E731
    kill_at_random_points(start, lambda process: log, store, 5)
    finish(start())
    assert steps(log) <= steps(tmp_path / "log") + 5
    assert toy.files(store) == toy.files(tmp_path / "whole")
    assert not (store / "features").exists()


def test_two_processes_write_what_one_does(pairs, whole, tmp_path):
    """Of four devices each, with gloo between them."""
    port, store = toy.free_port(), tmp_path / "store"
    processes = [
        toy.start(JOB, pairs, store, tmp_path / f"log{i}", port, i, 2, devices=4) for i in range(2)
    ]
    assert finish(processes).splitlines()[-1] == f"{PAIRS} 0 8"
    assert toy.files(store) == whole


def test_twenty_kills_of_two_processes(pairs, whole, tmp_path):
    store = tmp_path / "store"
    log_of = lambda i: tmp_path / f"log{i}"  # noqa: E731

    def start():
        port = toy.free_port()
        return [
            toy.start(JOB, pairs, store, log_of(i), port, i, 2, devices=1, PAUSE="0.03")
            for i in range(2)
        ]

    kill_at_random_points(start, log_of, store, KILLS)
    finish(start())
    # Of the very last step, one process may have had nothing but padding.
    assert steps(log_of(0)) + steps(log_of(1)) <= -(-PAIRS // BATCH) + 2 * KILLS + 1
    assert toy.files(store) == whole
