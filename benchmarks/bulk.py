"""What a large job costs: beside the bare loop, beside the usual loop, over time, over devices.

    python benchmarks/bulk.py                   # all but --real; half an hour on two CPU cores
    python benchmarks/bulk.py --quick           # tiny sizes, to see that it runs
    python benchmarks/bulk.py --only memory     # throughput, usual, memory or scaling
    python benchmarks/bulk.py --real DIR --out STORE    # 12,100 pairs of crops of the photographs

Wall time over forced devices on two cores says nothing about scaling; what is shown there is that
a device's program has no collective in it, and that the store is the same.
"""

import argparse
import filecmp
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

import fam_jax
import pretrained_ports
from fam_jax import bulk
from fam_jax.bulk import drive, job
from fam_jax.bulk.inputs import from_pictures
from fam_jax.bulk.programs import Spread
from fam_jax.bulk.share import Share
from fam_jax.io import photographs

CONSOLE = Console(width=110)
COLLECTIVES = re.compile(
    r"\b(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast)\b"
)


def crops(folder: Path, n: int, side: int | None, sources: list[Image.Image]) -> list[str]:
    """Parts of photographs as JPEG files; of their own size, or `side` pixels."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(n):
        photo = sources[i % len(sources)]
        size = int(min(photo.size) * rng.uniform(0.5, 1.0))
        left, top = (int(rng.integers(0, length - size + 1)) for length in photo.size)
        part = photo.crop((left, top, left + size, top + size))
        path = folder / f"{i:05}.jpg"
        (part.resize((side, side)) if side else part).save(path, quality=90)
        paths.append(str(path))
    return paths


def pairs_of(paths: list[str], n: int) -> list[tuple[str, str]]:
    """Pairs of different pictures, at random."""
    rng = np.random.default_rng(1)
    return [tuple(paths[i] for i in rng.choice(len(paths), 2, replace=False)) for _ in range(n)]


def demo_photos() -> list[Image.Image]:
    """Photographs that ship inside packages."""
    return [Image.fromarray(photo.image) for photo in photographs.load()]


def captured(network: str):
    """A network with random weights, ready to explain."""
    backbone = pretrained_ports.create(network)
    return backbone, fam_jax.capture(backbone.model, at=backbone.layer, tokens=backbone.tokens)


class Steps:
    """When each step was written."""

    def __init__(self):
        self.times, self.last = [], None

    def __call__(self, progress: drive.Progress) -> None:
        """Note the time."""
        self.times.append(time.perf_counter())
        self.last = progress


def loops(encode, preprocess, pairs, folder: Path, batch: int, rounds: int):
    """Seconds of a step of the job, of the bare loop over the same batches, of reading alone.

    The bare loop runs the job's own compiled program over batches that are in memory. Job and
    loop take turns.
    """
    asked = job.Job.of(
        encode, pairs, folder / "job", preprocess, None, batch, None, "float16", False, None
    )
    spread = Spread(
        lambda p, x: job.explain_chunk(*p, x, size=None, dtype="float16"),
        (asked.encode, asked.method),
        jax.devices(),
    )
    asked.pairs.save(job.epath.Path(folder))
    source = asked.pairs.opened(job.epath.Path(folder))
    share = Share(np.arange(-(-len(pairs) // batch)), spread)
    began = time.perf_counter()
    inputs = [x.device for x in from_pictures(share, source, asked.load, 0)]
    reading = (time.perf_counter() - began) / len(inputs)
    jax.block_until_ready(spread(inputs[0]))
    jobs, bares = [], []
    for i in range(rounds):
        seen = Steps()
        bulk.run(
            encode, pairs, folder / f"job{i}", preprocess=preprocess, batch=batch, on_step=seen
        )
        # The first step compiles, and the second may have waited for it.
        jobs.append((seen.times[-1] - seen.times[1]) / (len(seen.times) - 2))
        began, pending = time.perf_counter(), None
        for x in inputs:
            outputs = spread(x)
            if pending is not None:
                jax.block_until_ready(pending)
            pending = outputs
        jax.block_until_ready(pending)
        bares.append((time.perf_counter() - began) / len(inputs))
    return jobs, bares, reading


def throughput(quick: bool) -> None:
    """The job beside the bare loop, where the network is the bottleneck and where reading is.

    A CPU that is the device and reads as well has no cores to spare: XLA leaves one to the
    readers, as an accelerator leaves all of them.
    """
    if jax.default_backend() == "cpu" and "NPROC" not in os.environ:
        env = {**os.environ, "NPROC": str(max(1, len(os.sched_getaffinity(0)) - 1))}
        command = [sys.executable, __file__, "--only", "throughput"]
        subprocess.run([*command, "--quick"] if quick else command, env=env, check=True)
        return
    cores = f", XLA on {os.environ['NPROC']} core(s)" if "NPROC" in os.environ else ""
    table = Table(
        title=f"Throughput, {jax.device_count()} {jax.default_backend()} device(s){cores}"
    )
    names = "network, pictures", "pairs", "reading alone", "bare loop", "job", "job / bare"
    for name in (*names, "device waited"):
        table.add_column(name, justify="right")
    large = demo_photos()
    cases = [
        ("resnet50", 224, 8, 8 if quick else 64),
        ("tiny", 224, 8, 32 if quick else 256),
        ("tiny", 2000, 8, 32 if quick else 64),
    ]
    if quick:
        cases[0] = ("cifar-resnet20", 224, 4, 16)
    for network, side, batch, n in cases:
        backbone, encode = captured(network)
        with tempfile.TemporaryDirectory() as folder:
            paths = crops(Path(folder) / "pictures", 64, side, large)
            jobs, bares, reading = loops(
                encode, backbone.preprocess, pairs_of(paths, n), Path(folder), batch,
                1 if quick else 2,
            )  # fmt: skip
        rows = batch * jax.device_count()
        ratio = statistics.median(b / j for b, j in zip(bares, jobs, strict=True))
        bare, found = (statistics.median(x) for x in (bares, jobs))
        bottleneck = ", the bottleneck" if reading > bare else ""
        table.add_row(
            f"{network}, {side} px", f"{n}", f"{rows / reading:.1f}{bottleneck}",
            f"{rows / bare:.2f}", f"{rows / found:.2f}", f"{ratio:.3f}", f"{max(0, 1 - ratio):.1%}",
        )  # fmt: skip
    CONSOLE.print(table)
    CONSOLE.print("In pairs per second.")


def usual_loop(quick: bool) -> None:
    """pytorch-grad-cam, a pair at a time, from files; and the job on the same files and network."""
    from torch_side import TorchSide, absent

    if missing := absent("torch", "torchvision", "pytorch_grad_cam"):
        CONSOLE.print(f"usual loop: skipped, not installed: {', '.join(missing)}")
        return
    network, n, batch = ("resnet18", 4, 2) if quick else ("resnet50", 96, 8)
    backbone, encode = captured(network)
    with tempfile.TemporaryDirectory() as folder:
        paths = crops(Path(folder) / "pictures", 64, 224, demo_photos())
        pairs = pairs_of(paths, n)
        seen = Steps()
        began = time.perf_counter()
        bulk.run(
            encode, pairs, Path(folder) / "store", preprocess=backbone.preprocess, batch=batch,
            on_step=seen,
        )  # fmt: skip
        whole = time.perf_counter() - began
        steady = (seen.times[-1] - seen.times[1]) / (len(seen.times) - 2) / batch if n > 8 else 0.0
        side = TorchSide(network, gpu=True)
        few = pairs[: 2 if quick else 16]
        _usual(side, backbone.preprocess, few[:1])
        began = time.perf_counter()
        _usual(side, backbone.preprocess, few)
        usual = (time.perf_counter() - began) / len(few)
    table = Table(title=f"Both maps of a pair, from files: {network}, 224 px, {n} pairs")
    for name in ("", "seconds a pair", "ratio"):
        table.add_column(name, justify="right")
    table.add_row("pytorch-grad-cam, pair by pair", f"{usual:.3f}", "1.0")
    if steady:
        table.add_row("job, steady", f"{steady:.3f}", f"{usual / steady:.1f}")
    table.add_row("job, with compilation", f"{whole / n:.3f}", f"{usual * n / whole:.1f}")
    CONSOLE.print(table)


def _usual(side, preprocess, pairs) -> None:
    """What one writes first: a tool, its target, a pair at a time, both ways."""
    from pytorch_grad_cam import GradCAM

    torch = side.torch
    with GradCAM(side.network, [side.network.layer4]) as cam:
        for pair in pairs:
            images = [
                torch.from_numpy(np.moveaxis(preprocess(Image.open(path).convert("RGB")), -1, 0))
                .unsqueeze(0).to(side.device)
                for path in pair
            ]  # fmt: skip
            with torch.inference_mode():
                embeddings = [side.network(image)[0].clone() for image in images]
            for image, other in zip(images, reversed(embeddings), strict=True):
                cam(image, [side.cosine(other.detach())])


def memory(quick: bool) -> None:
    """Resident size over 20,000 small pairs, and over a tenth of them, each in its own process."""
    table = Table(title="Memory of a job of small pairs (32 px, one device)")
    for name in ("pairs", "after 10 %", "at the end", "growth", "seconds"):
        table.add_column(name, justify="right")
    for n in (200, 400) if quick else (2_000, 20_000):
        out = _child("memory-child", str(n), devices=1)
        first, last, seconds = map(float, out.split()[-3:])
        table.add_row(
            f"{n:,}", f"{first:.0f} MiB", f"{last:.0f} MiB", f"{last - first:+.1f} MiB",
            f"{seconds:.0f}",
        )  # fmt: skip
    CONSOLE.print(table)


def _memory_child(rows: str) -> None:
    n = int(rows)
    backbone, encode = captured("cifar-resnet20")
    seen = []

    def resident() -> float:
        return (
            int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
        )

    with tempfile.TemporaryDirectory() as folder:
        paths = crops(Path(folder) / "pictures", 200, 32, demo_photos())
        file = Path(folder) / "pairs.csv"
        with file.open("w") as out:
            out.write("query,reference\n")
            rng = np.random.default_rng(0)
            for _ in range(n):
                out.write("{},{}\n".format(*(paths[i] for i in rng.integers(0, len(paths), 2))))
        began = time.perf_counter()
        bulk.run(
            encode, file, Path(folder) / "store", preprocess=backbone.preprocess, batch=10,
            on_step=lambda progress: seen.append(resident()),
        )  # fmt: skip
        seconds = time.perf_counter() - began
    print(seen[len(seen) // 10], seen[-1], seconds)


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
            out = _child("scaling-child", str(file), str(stores[0]), devices=devices).split()
            _child("scaling-child", str(file), str(stores[1]), devices=1)
            same = "same" if _same(*stores) else "DIFFERENT"
            table.add_row(str(devices), f"{devices * each}", *out[-4:], f"{same} as on 1")
    CONSOLE.print(table)


def _scaling_child(file: str, store: str) -> None:
    made = []

    class Kept(Spread):
        def __call__(self, inputs):
            if not made:
                made.append(self)
                made.append(
                    jax.tree.map(
                        lambda x: jax.make_array_from_process_local_data(self._split, x), inputs
                    )
                )
            return super().__call__(inputs)

    job.Spread = Kept
    backbone, encode = captured("cifar-resnet20")
    seen = Steps()
    began = time.perf_counter()
    bulk.run(encode, file, store, preprocess=backbone.preprocess, batch=8, on_step=seen)
    seconds = time.perf_counter() - began
    spread, arrays = made
    compilations = spread.compiled._cache_size()
    text = spread.compiled.lower(spread._parameters, arrays).compile().as_text()
    print(len(seen.times), len(COLLECTIVES.findall(text)), compilations, f"{seconds:.1f}")


def _same(a: Path, b: Path) -> bool:
    names = [sorted(p.relative_to(x) for p in x.rglob("*") if p.is_file()) for x in (a, b)]
    return names[0] == names[1] and all(filecmp.cmp(a / n, b / n, False) for n in names[0])


def _child(what: str, *args: str, devices: int) -> str:
    flags = f"--xla_force_host_platform_device_count={devices}"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, "--child", what, *args]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


def real(folder: Path, out: Path) -> None:
    """110 x 110 crops of every photograph at hand, all pairs, and 12,100 of them from a table."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    sources = demo_photos() + [Image.open(p).convert("RGB") for p in files]
    sources = [photo for photo in sources if min(photo.size) >= 64]
    paths = crops(out / "pictures", 220, None, sources)
    backbone = pretrained_ports.load("tiny")
    encode = fam_jax.capture(backbone.model, at=backbone.layer)
    table = Table(title=f"12,100 pairs of {len(paths)} crops of {len(sources)} photographs, tiny")
    for name in ("pairs", "maps", "seconds", "pairs/s", "invalid", "store"):
        table.add_column(name, justify="right")
    grid = bulk.grid(paths[:110], paths[110:], 32)
    rng = np.random.default_rng(0)
    drawn = [tuple(paths[i] for i in rng.choice(220, 2, replace=False)) for _ in range(12_100)]
    for name, pairs in (("all of 110 x 110", grid), ("drawn, from a table", drawn)):
        for dtype in ("float16", "uint8") if pairs is grid else ("float16",):
            store = out / f"{name.split()[0].strip(',')}-{dtype}"
            began = time.perf_counter()
            done = bulk.run(encode, pairs, store, preprocess=backbone.preprocess, dtype=dtype)
            seconds = time.perf_counter() - began
            size = sum(p.stat().st_size for p in store.rglob("*") if p.is_file())
            blocks = sum(p.stat().st_blocks * 512 for p in store.rglob("*") if p.is_file())
            table.add_row(
                name, dtype, f"{seconds:.0f}", f"{done.pairs / seconds:.0f}", str(done.invalid),
                f"{size / 2**20:.1f} MiB ({blocks / 2**20:.1f} on the disk)",
            )  # fmt: skip
    CONSOLE.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=["throughput", "usual", "memory", "scaling"])
    parser.add_argument("--real", type=Path, help="a folder of photographs")
    parser.add_argument("--out", type=Path, default=Path("bulk-real"))
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        what, *rest = args.child
        {"memory-child": lambda n: _memory_child(int(n)), "scaling-child": _scaling_child}[what](
            *rest
        )
        return
    if args.real:
        real(args.real, args.out)
        return
    parts = {"throughput": throughput, "usual": usual_loop, "memory": memory, "scaling": scaling}
    for name, part in parts.items():
        if args.only in (None, name):
            part(args.quick)


if __name__ == "__main__":
    main()
