"""What a heat-map costs: beside the forward pass, beside a hand-written FAM, beside PyTorch tools.

    python benchmarks/map_cost.py            # minutes on a CPU
    python benchmarks/map_cost.py --quick    # tiny sizes, to see that it runs

What is compared is timed in turns within one process, so that a busy machine slows all of it. A time
is the median over the rounds, a ratio the median of the ratios within the rounds.
"""

import argparse
import gc
import importlib
import importlib.util
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

# JAX would take most of a GPU's memory at once, and PyTorch may need some.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich import box
from rich.console import Console
from rich.table import Table

import fam_jax
import pretrained_ports


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    network: str = "resnet50"
    batch: int = 8
    pixels: int = 224
    queries: int = 16
    references: int = 1000
    activations: tuple[int, int, int] = (7, 7, 2048)
    chunks: tuple[int, ...] = (16, 64, 256, 1000)
    many: int = 100  # references of one image
    repeated: int = 10  # of these, how many are timed where every one costs a forward pass
    rounds: int = 9


QUICK = Sizes("resnet18", 2, 64, 2, 12, (3, 3, 32), (4, 12), 5, 2, 2)


def in_turns(jobs: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Seconds of every job in every round, after one call to warm up; the order rotates."""
    names = list(jobs)
    for name in names:
        jobs[name]()
    seconds = {name: [] for name in names}
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            start = time.perf_counter()
            jobs[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: list[float], others: list[float]) -> str:
    """The median of the ratios within the rounds."""
    return f"{statistics.median(a / b for a, b in zip(seconds, others, strict=True)):.2f} x"


def duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def mebibytes(size: float | None) -> str:
    return "not measured" if size is None else f"{size / 2**20:.0f} MiB"


def table(title: str, *columns: str) -> Table:
    out = Table(title=title, title_justify="left", box=box.MARKDOWN)
    for i, column in enumerate(columns):
        out.add_column(column, justify="right" if i else "left", no_wrap=True)
    return out


def ready(fn: Callable, *args, **options) -> Callable:
    """A job that waits for its result."""
    return lambda: jax.block_until_ready(fn(*args, **options))


def random(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def forward_pass(sizes: Sizes) -> Table:
    """FAM against the embedding alone."""
    backbone = pretrained_ports.create(sizes.network)
    encode = fam_jax.capture(backbone.model, at=backbone.layer)
    images = random(0, sizes.batch, sizes.pixels, sizes.pixels, 3)
    references = random(1, sizes.batch, backbone.embedding_dim)
    graph, state = nnx.split(backbone.model)
    embed = jax.jit(lambda state, images: nnx.merge(graph, state)(images))

    seconds = in_turns(
        {
            "embedding only": ready(embed, state, images),
            "fam_jax.explain": ready(fam_jax.explain, encode, images, references),
        },
        3 * sizes.rounds,
    )
    out = table(
        f"{sizes.network}, batch {sizes.batch}, {sizes.pixels} pixels",
        "job",
        "time",
        "of embedding",
        "aim",
    )
    for name, aim in (("embedding only", ""), ("fam_jax.explain", "1.05 x")):
        median = statistics.median(seconds[name])
        out.add_row(name, duration(median), ratio(seconds[name], seconds["embedding only"]), aim)
    return out


@jax.jit
def fam_by_hand(activations: jax.Array, references: jax.Array) -> jax.Array:
    """FAM with the cosine for a mean-pooled layer, every query with every reference."""
    z = activations.mean((1, 2))
    z = z / jnp.linalg.norm(z, axis=-1, keepdims=True)
    r = references / jnp.linalg.norm(references, axis=-1, keepdims=True)
    shares = jnp.einsum("qd,rd->qrd", z, r)
    low, high = shares.min(-1, keepdims=True), shares.max(-1, keepdims=True)
    weights = (shares - low) / (high - low)
    return jnp.einsum("qhwd,qrd->qrhw", activations, weights, precision=jax.lax.Precision.HIGHEST)


def temporary_memory(fn: Callable, *args) -> int | None:
    """Bytes that the compiled program takes beside its arguments and results."""
    analysis = jax.jit(fn).lower(*args).compile().memory_analysis()
    return None if analysis is None else analysis.temp_size_in_bytes


def resident_growth(job: Callable) -> int | None:
    """Bytes by which the process grows at most during a job (Linux); None elsewhere."""

    def status(field: str) -> int:
        return 1024 * int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1])

    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the highest value so far
        before = status("VmRSS")
        job()
        return max(0, status("VmHWM") - before)
    except (OSError, TypeError):
        return None


def all_pairs(sizes: Sizes) -> Table:
    """`explain_all` on given encodings against one hand-written contraction."""
    activations = jax.nn.relu(random(2, sizes.queries, *sizes.activations))
    references = jax.nn.relu(random(3, sizes.references, sizes.activations[-1]))
    encode = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))
    pairs = sizes.queries * sizes.references

    def job(chunk: int) -> Callable:
        def run(encode, activations, references):
            return fam_jax.explain_all(encode, activations, references, chunk=chunk).maps

        return run

    by_hand = fam_by_hand(activations, references)
    given = job(sizes.chunks[0])(encode, activations, references)
    np.testing.assert_allclose(given, by_hand, rtol=1e-4, atol=1e-4 * float(by_hand.max()))
    del by_hand, given

    timed = {"by hand": ready(fam_by_hand, activations, references)}
    memory = {"by hand": temporary_memory(fam_by_hand, activations, references)}
    for chunk in sizes.chunks:
        name = f"explain_all, chunk {chunk}"
        timed[name] = ready(job(chunk), encode, activations, references)
        memory[name] = temporary_memory(job(chunk), encode, activations, references)
    seconds = in_turns(timed, sizes.rounds)
    on_cpu = jax.default_backend() == "cpu"
    growth = {name: resident_growth(run) if on_cpu else None for name, run in timed.items()}

    shape = ", ".join(map(str, sizes.activations))
    out = table(
        f"FAM of {sizes.queries} x {sizes.references} pairs, encodings [{shape}]",
        "job",
        "time a pair",
        "of by hand",
        "aim",
        "XLA temporaries",
        "process grows by",
    )
    for name in timed:
        out.add_row(
            name,
            duration(statistics.median(seconds[name]) / pairs),
            ratio(seconds[name], seconds["by hand"]),
            "" if name == "by hand" else "3 x",
            mebibytes(memory[name]),
            mebibytes(growth[name]),
        )
    return out


def import_torchvision():
    """Torchvision, also where its compiled operators cannot be loaded: its models need none."""
    import torch

    found = importlib.util.find_spec("torchvision")
    if found is None:
        raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision")
    rules = Path(found.submodule_search_locations[0], "_meta_registrations.py").read_text()
    mentioned = re.findall(r'register_meta\("(\w+)"|torchvision::(\w+)', rules)
    for operator in {"nms", *(a or b for a, b in mentioned)}:
        if not hasattr(torch.ops.torchvision, operator):
            torch.library.define(f"torchvision::{operator}", "(Tensor x) -> Tensor")
    return importlib.import_module("torchvision")


def absent(*packages: str) -> list[str]:
    """Those of the packages that cannot be imported."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


class TorchSide:
    """The same kind of network in PyTorch, and the tools that explain it."""

    def __init__(self, sizes: Sizes):
        import torch

        self.torch = torch
        on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
        self.device = "cuda" if on_gpu else "cpu"
        torch.manual_seed(0)
        network = getattr(import_torchvision().models, sizes.network)()
        self.dimensions = network.fc.in_features
        network.fc = torch.nn.Identity()
        self.network = network.eval().to(self.device)
        self.layer = network.layer4

    def random(self, *shape: int):
        return self.torch.randn(*shape, device=self.device)

    def embed(self, images):
        with self.torch.inference_mode():
            self.network(images)
        self.wait()

    def wait(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def cosine(self, reference):
        """A target in the sense of both tools."""
        return lambda embedding: self.torch.cosine_similarity(embedding, reference, dim=0)

    def pytorch_grad_cam(self, images, references):
        """A map of each image for the reference beside it."""
        from pytorch_grad_cam import GradCAM

        with GradCAM(self.network, [self.layer]) as cam:
            cam(images, [self.cosine(r) for r in references])
        self.wait()

    def torchcam(self, images, references):
        """As `pytorch_grad_cam`."""
        from torchcam.methods import GradCAM

        with GradCAM(self.network, self.layer) as cam:
            cam(scores=self.network(images), targets=[self.cosine(r) for r in references])
        self.wait()

    def pytorch_grad_cam_many(self, image, references):
        """A map of one image for every reference: a forward and a backward pass each."""
        from pytorch_grad_cam import GradCAM

        with GradCAM(self.network, [self.layer]) as cam:
            for r in references:
                cam(image, [self.cosine(r)])
        self.wait()

    def torchcam_many(self, image, references):
        """A map of one image for every reference: one forward pass, a backward pass each."""
        from torchcam.methods import GradCAM

        with GradCAM(self.network, self.layer) as cam:
            scores = self.network(image)
            for r in references:
                cam(scores=scores, targets=self.cosine(r), retain_graph=True)
        self.wait()


# Name in the table -> distribution, what it needs beside torch and torchvision, methods of TorchSide.
TOOLS = {
    "pytorch-grad-cam": ("grad-cam", ("pytorch_grad_cam", "cv2", "ttach", "sklearn"), True),
    "torchcam": ("torchcam", ("torchcam",), False),
}


def torch_tools(sizes: Sizes) -> list[Table]:
    """Grad-CAM of a cosine in PyTorch, a batch of pairs and one image with many references."""
    pairs = table(
        f"Pairs in PyTorch and JAX: {sizes.network}, batch {sizes.batch}, {sizes.pixels} pixels",
        "job",
        "time",
        "of the same framework's embedding",
    )
    many = table(
        f"One image, {sizes.many} references: {sizes.network}, {sizes.pixels} pixels",
        "job",
        "time a reference",
        "of explain_all",
    )

    backbone = pretrained_ports.create(sizes.network)
    encode = fam_jax.capture(backbone.model, at=backbone.layer)
    graph, state = nnx.split(backbone.model)
    embed = jax.jit(lambda state, images: nnx.merge(graph, state)(images))
    images = random(0, sizes.batch, sizes.pixels, sizes.pixels, 3)
    references = random(1, sizes.many, backbone.embedding_dim)
    here = {
        "JAX: embedding only": ready(embed, state, images),
        "JAX: fam_jax.explain": ready(fam_jax.explain, encode, images, references[: sizes.batch]),
    }
    base = {name: "JAX: embedding only" for name in here}
    jobs = {"fam_jax.explain_all": ready(fam_jax.explain_all, encode, images[:1], references)}
    counted = {"fam_jax.explain_all": sizes.many}

    missing = {}
    if gone := absent("torch", "torchvision"):
        missing = {f"PyTorch: {name}": gone for name in ("embedding only", *TOOLS)}
    else:
        side = TorchSide(sizes)
        pictures = side.random(sizes.batch, 3, sizes.pixels, sizes.pixels)
        targets = side.random(sizes.many, side.dimensions)
        here["PyTorch: embedding only"] = lambda: side.embed(pictures)
        base["PyTorch: embedding only"] = "PyTorch: embedding only"
        for name, (distribution, modules, repeats_forward) in TOOLS.items():
            if gone := absent(*modules):
                missing[f"PyTorch: {name}"] = gone
                continue
            method = name.replace("-", "_")
            label = f"PyTorch: {name} {version(distribution)}"
            pair, every = getattr(side, method), getattr(side, f"{method}_many")
            here[label] = lambda pair=pair: pair(pictures, targets[: sizes.batch])
            base[label] = "PyTorch: embedding only"
            count = sizes.repeated if repeats_forward else sizes.many
            jobs[label] = lambda every=every, count=count: every(pictures[:1], targets[:count])
            counted[label] = count

    seconds = in_turns(here, sizes.rounds)
    for name, times in seconds.items():
        pairs.add_row(name, duration(statistics.median(times)), ratio(times, seconds[base[name]]))
    seconds = in_turns(jobs, max(2, sizes.rounds // 3))
    each = {name: [s / counted[name] for s in times] for name, times in seconds.items()}
    for name, times in each.items():
        timed = "" if counted[name] == sizes.many else f" ({counted[name]} of them timed)"
        cost = duration(statistics.median(times))
        many.add_row(name + timed, cost, ratio(times, each["fam_jax.explain_all"]))
    for name, gone in missing.items():
        pairs.add_row(name, "not installed: " + ", ".join(gone), "")
        if not name.endswith("only"):
            many.add_row(name, "not installed: " + ", ".join(gone), "")
    return [pairs, many]


def machine() -> str:
    """Device, processor count and versions, in one line."""
    devices = jax.devices()
    kind = devices[0].device_kind if devices[0].platform != "cpu" else platform.machine() + " CPU"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch = "no torch" if absent("torch") else f"torch {version('torch')}"
    return (
        f"{kind} (JAX backend {devices[0].platform}), {cores} CPU cores, Python "
        f"{platform.python_version()}, jax {jax.__version__}, {torch}"
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the numbers mean nothing")
    sizes = QUICK if parser.parse_args(argv).quick else Sizes()
    console = Console(width=120)
    console.print(machine(), highlight=False)
    for tables in (
        lambda: [forward_pass(sizes)],
        lambda: [all_pairs(sizes)],
        torch_tools_of(sizes),
    ):
        for part in tables():
            console.print()
            console.print(part)


def torch_tools_of(sizes: Sizes) -> Callable[[], list[Table]]:
    return lambda: torch_tools(sizes)


if __name__ == "__main__":
    main()
