"""The speed of a large job: beside the bare loop, beside the usual loop."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from bulk_inputs import CONSOLE, SCRIPT, Steps, captured, crops, demo_photos, pairs_of
from etils import epath
from PIL import Image
from rich.table import Table
from torch_side import TorchSide, absent

from fam_jax import bulk
from fam_jax.bulk._chunks import picture_inputs
from fam_jax.bulk._run import Job
from fam_jax.bulk._steps import ChunkSchedule


def loops(encode, preprocess, pairs, folder: Path, batch: int, rounds: int):
    """Seconds of a step of the job, of the bare loop over the same batches, of reading alone.

    The bare loop runs the job's own compiled program over batches that are in memory. Job and
    loop take turns.
    """
    job = Job.create(
        encode, pairs, folder / "job", preprocess, None, batch, size=None, dtype="float16"
    )
    program = job.program()
    job.pairs.save(epath.Path(folder))
    stored = job.pairs.reopen(epath.Path(folder))
    schedule = ChunkSchedule(np.arange(-(-len(pairs) // batch)), program)
    began = time.perf_counter()
    inputs = [x.device for x in picture_inputs(schedule, stored, job.load, workers=0)]
    reading = (time.perf_counter() - began) / len(inputs)
    jax.block_until_ready(program(inputs[0]))
    jobs, bares = [], []
    for i in range(rounds):
        steps = Steps()
        bulk.run(
            encode, pairs, folder / f"job{i}", preprocess=preprocess, batch=batch, on_step=steps
        )
        # The first step compiles, and the second may have waited for it.
        jobs.append((steps.times[-1] - steps.times[1]) / (len(steps.times) - 2))
        began, pending = time.perf_counter(), None
        for x in inputs:
            outputs = program(x)
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
        command = [sys.executable, SCRIPT, "--only", "throughput"]
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
            pairs, rounds = pairs_of(paths, n), 1 if quick else 2
            jobs, bares, reading = loops(
                encode, backbone.preprocess, pairs, Path(folder), batch, rounds
            )
        rows = batch * jax.device_count()
        ratio = statistics.median(b / j for b, j in zip(bares, jobs, strict=True))
        bare, job = (statistics.median(x) for x in (bares, jobs))
        bottleneck = ", the bottleneck" if reading > bare else ""
        alone = f"{rows / reading:.1f}{bottleneck}"
        rates = f"{rows / bare:.2f}", f"{rows / job:.2f}", f"{ratio:.3f}"
        waited = f"{max(0, 1 - ratio):.1%}"
        table.add_row(f"{network}, {side} px", f"{n}", alone, *rates, waited)
    CONSOLE.print(table)
    CONSOLE.print("In pairs per second.")


def usual_loop(quick: bool) -> None:
    """pytorch-grad-cam, a pair at a time, from files; and the job on the same files and network."""
    if missing := absent("torch", "torchvision", "pytorch_grad_cam"):
        CONSOLE.print(f"usual loop: skipped, not installed: {', '.join(missing)}")
        return
    network, n, batch = ("resnet18", 4, 2) if quick else ("resnet50", 96, 8)
    backbone, encode = captured(network)
    with tempfile.TemporaryDirectory() as folder:
        paths = crops(Path(folder) / "pictures", 64, 224, demo_photos())
        pairs = pairs_of(paths, n)
        steps = Steps()
        began = time.perf_counter()
        store, preprocess = Path(folder) / "store", backbone.preprocess
        bulk.run(encode, pairs, store, preprocess=preprocess, batch=batch, on_step=steps)
        whole = time.perf_counter() - began
        steady = (
            (steps.times[-1] - steps.times[1]) / (len(steps.times) - 2) / batch if n > 8 else 0.0
        )
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
            images = []
            for path in pair:
                picture = preprocess(Image.open(path).convert("RGB"))
                planes = torch.from_numpy(np.moveaxis(picture, -1, 0))
                images.append(planes.unsqueeze(0).to(side.device))
            with torch.inference_mode():
                embeddings = [side.network(image)[0].clone() for image in images]
            for image, other in zip(images, reversed(embeddings), strict=True):
                cam(image, [side.cosine(other.detach())])
