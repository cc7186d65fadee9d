"""What a command says where its reader, its terminal or its devices are not what they should be."""

import os
import subprocess
import sys
import warnings

import pytest
from PIL import Image

from tests.commands import TINY, inputs, run

PAIR = ("explain", "some/a.png", "some/b.png", *TINY, "--image-size", "32", "-o", "out")


@pytest.fixture
def started(tmp_path):
    """Starts the command line in a process of its own, in a folder with pictures."""
    inputs(tmp_path)

    def start(*args, **more):
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        env = {**os.environ, "PYTHONPATH": root, **more.pop("env", {})}
        command = [sys.executable, "-m", "fam_jax", *args]
        return subprocess.run(command, cwd=tmp_path, env=env, check=False, **more)

    return start


def test_the_work_is_done_where_nobody_reads_what_is_said(started, tmp_path):
    """A pipe whose reader has gone, as of `| head -1`."""
    read, write = os.pipe()
    os.close(read)
    done = started(*PAIR, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_a_terminal_without_letters_gets_escapes(started, tmp_path):
    (tmp_path / "some" / "a.png").rename(tmp_path / "some" / "ü.png")
    pair = ("explain", "some/ü.png", *PAIR[2:])
    done = started(*pair, capture_output=True, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert b"some/\\xfc.png" in done.stdout
    done = started("models", capture_output=True, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    done.stdout.decode("ascii")


def test_a_platform_without_devices_is_one_line(started):
    done = started(*PAIR, capture_output=True, text=True, env={"JAX_PLATFORMS": "cuda"})
    if done.returncode == 0:
        pytest.skip("there is a GPU")
    assert done.returncode == 2
    assert done.stderr.startswith("error: JAX finds no device for JAX_PLATFORMS='cuda'")
    assert done.stderr.count("\n") == 1


def test_warnings_are_a_line_without_the_code_that_gave_them(here, monkeypatch):
    open_ = Image.open

    def warning(*args, **options):
        warnings.warn("Corrupt EXIF data:\nexpected 4 bytes", UserWarning, stacklevel=1)
        return open_(*args, **options)

    monkeypatch.setattr(Image, "open", warning)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        said = run(*PAIR)
    assert said.exit_code == 0, said.output
    lines = said.stderr.splitlines()
    assert lines
    assert set(lines) == {"warning: Corrupt EXIF data: expected 4 bytes"}


ADDRESSES = {
    "map http://x.invalid/pairs.csv": "is an address of a kind that is not read",
    "map pairs.csv -o foo://x.invalid/store": "is an address of a kind that is not read",
    "index https://x.invalid/folder": "is an address of a kind that is not read",
    "report http://x.invalid/store": "is an address of a kind that is not read",
    "retrieve some/a.png --index http://x.invalid/index": "is an address of a kind that is not",
    "explain http://x.invalid/a.png some/b.png": "http://x.invalid/a.png is an address of a kind",
    "explain s3://bucket/a.png some/b.png": "s3://bucket/a.png: addresses of s3:// need s3fs: pip",
    "explain some/a.png some/b.png --weights https://x.invalid/a.pth": "download the file",
    "convert https://x.invalid/a.pth a.safetensors": "download the file",
    "evaluate mosaic --data https://x.invalid/a": "is an address; a local folder or file is read",
}


@pytest.mark.parametrize("command", ADDRESSES)
def test_addresses_of_other_kinds_are_refused_at_once(command, here):
    """Nothing is asked of a host, which may never answer."""
    network = TINY if command.split()[0] in ("map", "index", "explain", "evaluate") else ()
    said = run(*command.split(), *network)
    assert (said.exit_code, ADDRESSES[command] in said.stderr) == (2, True), said.output
    assert said.stderr.count("\n") == 1


def test_a_row_of_such_an_address_has_the_reason(here):
    (here / "rows.csv").write_text(
        "query,reference\nsome/a.png,some/b.png\nhttp://x.invalid/a.png,some/b.png\n"
    )
    said = run("map", "rows.csv", *TINY, "--image-size", 32, "-o", "store")
    assert said.exit_code == 3, said.output
    assert "1: query: http://x.invalid/a.png is an address of a kind that" in said.output
