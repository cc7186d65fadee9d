"""A group of arrays, written a chunk at a time, and what happens when it cannot be."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from fam_jax.apps.main import app
from fam_jax.bulk._maps import quantise, restore
from fam_jax.bulk._zarr import STATUS_COLUMNS, Column, Group, encode_text
from tests.bulk import toy

COLUMNS = {"x": Column("float32", (2,)), **STATUS_COLUMNS}


def chunk(n, value):
    return {
        "x": np.full((n, 2), value, np.float32),
        "reason": encode_text([""] * n),
        "status": np.ones(n, np.uint8),
    }


def test_chunks_are_done_when_their_status_is(tmp_path):
    """Of a grid whose last tiles are smaller."""
    group = Group(str(tmp_path), (3, 5), (2, 4), COLUMNS, write=True)
    assert [group.chunk_rows(i) for i in range(len(group))] == [8, 2, 4, 1]
    group.write({1: chunk(2, 7.0), 3: chunk(1, 9.0)})
    assert group.written().tolist() == [False, True, False, True]
    column = group.read("x")
    assert column[:2, 4].tolist() == [[7, 7], [7, 7]]
    assert column[2, 4].tolist() == [9, 9]
    assert not column[:, :4].any()


def test_a_chunk_without_status_is_written_again(tmp_path):
    group = Group(str(tmp_path), (4,), (2,), COLUMNS, write=True)
    group._arrays["x"][:2].write(chunk(2, 1.0)["x"]).result()  # stopped after one array
    assert not group.written().any()
    group.write({0: chunk(2, 3.0)})
    assert group.read("x", 0).tolist() == [3, 3]


@pytest.mark.parametrize("dtype", ["float16", "uint8", "float32"])
def test_constant_and_zero_maps_survive(dtype):
    maps = np.stack([np.zeros((2, 3)), np.full((2, 3), -2.5)]).astype(np.float32)
    stored, ranges = map(np.asarray, quantise(jnp.asarray(maps), dtype))
    np.testing.assert_array_equal(restore(stored, None if dtype == "float32" else ranges), maps)


@pytest.mark.numerics
def test_float16_is_that_of_numpy():
    """All of float16 from 0 to 1, the midpoints between them, and what is next to these."""
    halves = np.arange(0x3C01, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (halves[1:] + halves[:-1]) / 2
    beside = [np.nextafter(middles, np.float32(to)) for to in (0, 2)]
    unit = np.concatenate([halves, middles, *beside])
    stored, _ = quantise(jnp.asarray(unit[None, None]), "float16")
    expected = unit.astype(np.float16)
    np.testing.assert_array_equal(stored[0, 0].view(np.uint16), expected.view(np.uint16))


JOB = """
    import resource, signal, sys
    sys.path.insert(0, {root!r})
    from fam_jax.apps.main import main
    from fam_jax.bulk._zarr import Group
    made = Group.write
    def write(self, chunks):
        # From the third step on, no file may grow: what a full disk does.
        write.steps += 1
        if write.steps == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        made(self, chunks)
    write.steps = 0
    Group.write = write
    main(sys.argv[1:])
"""


def test_a_full_disk_ends_in_one_line_and_the_job_goes_on(tmp_path):
    """What was written stays, and the store ends as if nothing had happened."""
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN  # Python gives an error instead
    table = toy.table(tmp_path / "in", 24)
    script = textwrap.dedent(JOB).format(root=str(Path(__file__).resolve().parents[2]))
    # One device, so that the third step comes before the last.
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=1"

    def command(out):
        out = str(tmp_path / out)
        return ["map", str(table), "--model", "tiny", "--output", out, "--batch", "4"]

    failed = subprocess.run(
        [sys.executable, "-c", script, *command("store")],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "XLA_FLAGS": flags},
    )
    assert failed.returncode == 2, failed.stderr
    last = failed.stderr.strip().splitlines()[-1]
    assert last == (
        f"error: cannot write {tmp_path / 'store'}: File too large; what is written stays, and "
        "the same command goes on from there"
    )
    assert 0 < len(list((tmp_path / "store" / "status" / "c").iterdir())) < 6
    assert CliRunner().invoke(app, command("store")).exit_code == 0
    assert CliRunner().invoke(app, command("whole")).exit_code == 0
    assert toy.files(tmp_path / "store") == toy.files(tmp_path / "whole")
