"""A large job over time and over devices: memory, collectives, the same store."""

import filecmp
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bulk_inputs import CONSOLE, SCRIPT, Steps, captured, crops, demo_photos, pairs_of
from rich.table import Table

from fam_jax import bulk
from fam_jax.bulk import _run
from fam_jax.bulk._programs import DeviceProgram

COLLECTIVES = re.compile(
    r"\b(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast)\b"
)


def memory(quick: bool) -> None:
    """Resident size over 20,000 small pairs, and over a tenth of them, each in its own process."""
    table = Table(title="Memory of a job of small pairs (32 px, one device)")
    for name in ("pairs", "after 10 %", "at the end", "growth", "seconds"):
        table.add_column(name, justify="right")
    for n in (200, 400) if quick else (2_000, 20_000):
        out = _child("memory", str(n), devices=1)
        first, last, seconds = map(float, out.split()[-3:])
        sizes = f"{first:.0f} MiB", f"{last:.0f} MiB", f"{last - first:+.1f} MiB"
        table.add_row(f"{n:,}", *sizes, f"{seconds:.0f}")
    CONSOLE.print(table)


def _memory_child(rows: str) -> None:
    n = int(rows)
    backbone, encode = captured("cifar-resnet20")
    megabytes = []

    def note_resident_size(progress: bulk.Progress) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        megabytes.append(pages * os.sysconf("SC_PAGESIZE") / 2**20)

    with tempfile.TemporaryDirectory() as folder:
        paths = crops(Path(folder) / "pictures", 200, 32, demo_photos())
        file = Path(folder) / "pairs.csv"
        with file.open("w") as out:
            out.write("query,reference\n")
            rng = np.random.default_rng(0)
            for _ in range(n):
                out.write("{},{}\n".format(*(paths[i] for i in rng.integers(0, len(paths), 2))))
        began = time.perf_counter()
        store, preprocess = Path(folder) / "store", backbone.preprocess
        bulk.run(encode, file, store, preprocess=preprocess, batch=10, on_step=note_resident_size)
        seconds = time.perf_counter() - began
    print(megabytes[len(megabytes) // 10], megabytes[-1], seconds)


def scaling(quick: bool) -> None:
    """A fixed number of pairs a device on 1, 2, 4 and 8 forced devices."""
    table = Table(title="Weak scaling over forced devices (on two cores, time means nothing)")
    for name in ("devices", "pairs", "steps", "collectives", "compilations", "seconds", "store"):
        table.add_column(name, justify="right")
    each = 16 if quick else 64
    with tempfile.TemporaryDirectory() as folder:
        paths = crops(Path(folder) / "pictures", 40, 64, demo_photos())
        file = Path(folder) / "pairs.csv"
        rows = [",".join(pair) for pair in pairs_of(paths, 8 * each)]
        for devices in (1, 2, 4, 8):
            file.write_text("\n".join(["query,reference", *rows[: devices * each]]) + "\n")
            stores = [Path(folder) / f"{devices}-{kind}" for kind in ("spread", "alone")]
            out = _child("scaling", str(file), str(stores[0]), devices=devices).split()
            _child("scaling", str(file), str(stores[1]), devices=1)
            same = "same" if _same(*stores) else "DIFFERENT"
            table.add_row(str(devices), f"{devices * each}", *out[-4:], f"{same} as on 1")
    CONSOLE.print(table)


def _scaling_child(file: str, store: str) -> None:
    made = []

    class Kept(DeviceProgram):
        def __call__(self, inputs):
            if not made:
                made.extend([self, self.put(inputs)])
            return super().__call__(inputs)

    _run.DeviceProgram = Kept
    backbone, encode = captured("cifar-resnet20")
    steps = Steps()
    began = time.perf_counter()
    bulk.run(encode, file, store, preprocess=backbone.preprocess, batch=8, on_step=steps)
    seconds = time.perf_counter() - began
    program, arrays = made
    compilations = program.compiled._cache_size()
    text = program.compiled.lower(program.parameters, arrays).compile().as_text()
    print(len(steps.times), len(COLLECTIVES.findall(text)), compilations, f"{seconds:.1f}")


CHILDREN = {"memory": _memory_child, "scaling": _scaling_child}


def _same(a: Path, b: Path) -> bool:
    names = [sorted(p.relative_to(x) for p in x.rglob("*") if p.is_file()) for x in (a, b)]
    return names[0] == names[1] and all(filecmp.cmp(a / n, b / n, False) for n in names[0])


def _child(what: str, *args: str, devices: int) -> str:
    flags = f"--xla_force_host_platform_device_count={devices}"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, SCRIPT, "--child", what, *args]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
