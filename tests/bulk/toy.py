"""A network of no weight, pictures, and a job in a process of its own."""

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import fam_jax

SIDE = 16
# Of numpy: a process must not compute anything before it has joined the others.
KERNEL = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)


def features(images):
    """Means of 4 x 4 pixels, through five channels."""
    means = images.reshape(-1, SIDE // 4, 4, SIDE // 4, 4, 3).mean((2, 4))
    return jnp.maximum(jnp.einsum("bhwc,cd->bhwd", means, KERNEL), 0)


def encoder():
    return fam_jax.encoder(features, lambda A: A.mean((1, 2)))


class Preprocess:
    """The middle of a picture, in [-1, 1]; counts what it is asked for."""

    def __init__(self):
        self.calls = 0

    def __call__(self, picture):
        self.calls += 1
        picture = picture.crop([round(x) for x in self.region(picture.size)])
        return np.asarray(picture.resize((SIDE, SIDE)), np.float32) / 127.5 - 1

    def region(self, size):
        side = min(size)
        left, top = (size[0] - side) / 2, (size[1] - side) / 2
        return left, top, left + side, top + side


def pictures(folder: Path, n: int, side: int = 24) -> list[str]:
    """Some noise with a colour, in files."""
    rng = np.random.default_rng(n)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:03}.png" for i in range(n)]
    for path in paths:
        pixels = rng.integers(0, 256, (side, side + 8, 3)) // 2 + rng.integers(0, 128, 3)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return [str(path) for path in paths]


def table(folder: Path, n: int, images: int = 12) -> Path:
    """A CSV of n pairs of pictures."""
    names = [Path(path).name for path in pictures(folder, images)]
    rng = np.random.default_rng(1)
    rows = [
        f"{names[i]},{names[j]},pair-{k}"
        for k, (i, j) in enumerate(rng.integers(0, images, (n, 2)))
    ]
    file = folder / "pairs.csv"
    file.write_text("\n".join(["query,reference,id", *rows]) + "\n")
    return file


def rows(job, n: int) -> list[tuple[str, str]]:
    """Pairs of the pictures in the table of the fixture `job`."""
    _, store = job("names")
    names = sorted({row.query for row in store.rows(range(11))})
    return [(names[i % len(names)], names[(i * i) % len(names)]) for i in range(n)]


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a store, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.bulk.job", "tests.bulk.search_job"])


class Job:
    """`main(*args)` in a process of its own, with so many CPU devices.

    The process is forked from one that has imported what a job needs and computed nothing.
    """

    def __init__(self, main: Callable, *args: object, devices: int = 1, **env: str) -> None:
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
        self._result, of_process = FORKS.Pipe(duplex=False)
        work = (of_process, {"XLA_FLAGS": flags, **env}, main, args)
        self._process = FORKS.Process(target=_work, args=work, daemon=True)
        self._process.start()
        of_process.close()

    def alive(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        """By a signal that cannot be caught; returns when the process is gone."""
        self._process.kill()
        self._process.join()

    def result(self, seconds: float = 120) -> object:
        """What `main` returned; what it raised is the message of an AssertionError."""
        assert self._result.poll(seconds), f"nothing came within {seconds} s"
        result, error = self._result.recv()
        self._process.join(seconds)
        assert error == ""
        assert self._process.exitcode == 0
        return result


def _work(results, env, main, args) -> None:
    os.environ.update(env)
    try:
        result, error = main(*args), ""
        jax.distributed.shutdown()  # else at exit, which a forked process does not come by
    except BaseException:
        result, error = None, traceback.format_exc()
    results.send((result, error))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
