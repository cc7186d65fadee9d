"""A search by several processes finds what one finds, bit for bit, and so it explains."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from fam_jax.apps.main import main
from tests.bulk import search_job, toy
from tests.commands import TINY


@pytest.mark.parametrize(
    ("processes", "devices"), [(2, 1), pytest.param(3, 2, marks=pytest.mark.slow)]
)
def test_an_index_and_a_search(tmp_path, processes, devices):
    """Every picture is there twice, in other parts of the index: equal ones come by their rows."""
    toy.pictures(tmp_path / "pictures", 9)
    search_job.main(tmp_path, "alone")
    port = toy.free_port()
    jobs = [
        toy.Job(search_job.main, tmp_path, "several", port, i, processes, devices=devices)
        for i in range(processes)
    ]
    for job in jobs:
        job.result()
    alone = np.load(tmp_path / "alone-0.npz")
    assert alone["rows"][:, :2].tolist() == [[1, 10], [2, 11], [3, 12]]
    for i in range(processes):
        found = np.load(tmp_path / f"several-{i}.npz")
        np.testing.assert_array_equal(found["scores"], alone["scores"])
        np.testing.assert_array_equal(found["rows"], alone["rows"])
    assert toy.files(tmp_path / "several") == toy.files(tmp_path / "alone")


def ours(out):
    """The lines that are not gloo's: two of its threads write at once, and tear each other's."""
    words = r"\[Gloo\] Rank|is connected to|Expected number of connected|peer ranks( is :|\.)|\d|\s"
    return [line for line in out.splitlines() if not re.fullmatch(f"({words})*", line)]


@pytest.mark.slow
def test_the_commands(tmp_path, capsys):
    """`--distributed` on two hosts: the index and the maps of one, one page, said once."""
    paths = toy.pictures(tmp_path / "gallery", 7)

    def commands(name, *hosts):
        index, maps, page = (tmp_path / f"{name}-{what}" for what in ("index", "maps", "page"))
        make = ["index", tmp_path / "gallery", *TINY, "-o", index]
        find = ["retrieve", *paths[:2], "--index", index, "--top", 3, "--maps", maps, "-o", page]
        return [[*map(str, command), "--batch", "2", *hosts] for command in (make, find)]

    for command in commands("alone"):
        with pytest.raises(SystemExit) as end:
            main(command)
        assert end.value.code == 0
    said = capsys.readouterr().out
    for port, i in ((toy.free_port(), i) for i in range(2)):
        hosts = ["--distributed", "--coordinator", f"127.0.0.1:{port}", "--processes", "2"]
        command = [commands("two", *hosts, "--process", str(p))[i] for p in range(2)]
        start = "from fam_jax.apps.main import main; main()"
        started = [
            subprocess.Popen(
                [sys.executable, "-c", start, *of_process],
                env=os.environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for of_process in command
        ]
        ends = [process.communicate(timeout=200) for process in started]
        assert [process.returncode for process in started] == [0, 0], ends
        lines = [ours(out) for out, _ in ends]
        assert lines[1] == []
    said = ours(said.replace("alone-", "two-"))
    assert lines[0] == said[-len(lines[0]) :]
    assert paths[0] in lines[0]
    for what in ("index", "maps", "page"):
        alone, two = (toy.files(tmp_path / f"{name}-{what}") for name in ("alone", "two"))
        assert alone.keys() == two.keys()
        if what != "page":  # which says where its store is
            assert alone == two


def test_hosts_need_a_store_that_all_reach(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["retrieve", "a.png", "--distributed", "-o", str(tmp_path / "page")])
    assert "one store; say where all reach it: --maps" in capsys.readouterr().err
