"""How a map job scales, on paper: collectives, their bytes and the FLOPs of a device.

    python benchmarks/sharding.py            # minutes on a CPU
    python benchmarks/sharding.py --quick    # two devices, one network

For 1, 2, 4 and 8 forced host devices the job is compiled and its program read; nothing is timed,
and no pod is needed. The batch of a device stays the same. Parameters are whole on every device,
spread over the batch's devices (FSDP, gathered where they are used), or over others that share a
batch (tensor-parallel: columns of a product and then rows of the next). Bytes are those that a
device receives, when what is gathered or summed goes around a ring.
"""

import argparse
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from rich.console import Console
from timing import table

import fam_jax
import pretrained_ports

NETWORKS = {"vit-mini-patch8": 64, "cifar-resnet20": 32}  # pixels
EACH = 4  # images of a batch of a device, of queries and of references
KINDS = {
    "all-gather": "gathers",
    "all-reduce": "sums",
    "reduce-scatter": "scattered sums",
    "all-to-all": "exchanges",
    "collective-permute": "shifts",
}
# name -> devices of ("data", "model")
LAYOUTS: dict[str, Callable[[int], tuple[int, int]]] = {
    "batch": lambda n: (n, 1),
    "batch, FSDP": lambda n: (n, 1),
    "tensor-parallel": lambda n: (1, n),
    "both": lambda n: (n // 2, 2),
}
_ROWS = ("attn.proj.kernel", "mlp.fc2.kernel")  # of products whose columns are spread before


def spec_of(path: str, shape: tuple[int, ...], layout: str, sides: dict[str, int]) -> PartitionSpec:
    """Where a parameter lies."""
    axes: list[str | None] = [None] * len(shape)

    def spread(over: str, order: Any) -> None:
        for axis in order:
            if axes[axis] is None and shape[axis] % sides[over] == 0:
                axes[axis] = over
                return

    if layout in ("tensor-parallel", "both") and len(shape) > 1:
        spread("model", [0] if path.endswith(_ROWS) else [len(shape) - 1])
    if layout in ("batch, FSDP", "both") and len(shape) > 1:
        spread("data", sorted(range(len(shape)), key=lambda axis: -shape[axis]))
    return PartitionSpec(*axes)


def placed(tree: Any, mesh: jax.sharding.Mesh, layout: str) -> Any:
    """The encoder with its parameters on the mesh."""

    def place(keys: tuple, leaf: jax.Array) -> jax.Array:
        path = ".".join(re.findall(r"[A-Za-z_]\w*|\d+", jax.tree_util.keystr(keys)))
        path = path.removesuffix(".value")
        return jax.device_put(leaf, NamedSharding(mesh, spec_of(path, leaf.shape, layout, sides)))

    sides = dict(mesh.shape)
    return jax.tree_util.tree_map_with_path(place, tree)


def collectives(text: str, devices: int) -> tuple[Counter, float]:
    """Of a compiled program: how many of every kind, and the bytes that a device receives."""
    counts, received = Counter(), 0.0
    for line in text.splitlines():
        found = re.search(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(", line)
        if not found:
            continue
        kind = found[2]
        counts[kind] += 1
        n = _group(line, devices)
        size = _bytes(found[1])
        times = {"all-gather": (n - 1) / n, "all-reduce": 2 * (n - 1) / n, "reduce-scatter": n - 1}
        received += size * times.get(kind, (n - 1) / n if kind == "all-to-all" else 1)
    return counts, received


def _bytes(shapes: str) -> int:
    sizes = {"pred": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8}
    arrays = re.findall(r"(\w+)\[([\d,]*)\]", shapes)
    return sum(
        sizes[kind] * math.prod(int(n) for n in shape.split(",") if n)
        for kind, shape in arrays
        if kind in sizes
    )


def _group(line: str, devices: int) -> int:
    """How many devices take part in one of a line's collectives."""
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(found[1])
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(found[1].split(","))
    return devices


def forward(encode: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What a map job has to do without maps."""
    return encode(x).embeddings, encode(y).embeddings


def child(devices: int, networks: list[str]) -> None:
    """A row for every network, layout and program, on so many devices."""
    for name in networks:
        backbone, side = pretrained_ports.create(name), NETWORKS[name]
        encode = fam_jax.capture(backbone.model, at=backbone.layer, tokens=backbone.tokens)
        for layout, sides_of in LAYOUTS.items():
            data, model = sides_of(devices)
            if (devices == 1 and layout != "batch") or (layout == "both" and data < 2):
                continue
            # `explain_all` sees inside `jit` how images lie where the mesh is explicit.
            kind = AxisType.Explicit if layout == "batch" else AxisType.Auto
            mesh = jax.make_mesh((data, model), ("data", "model"), axis_types=(kind, kind))
            batch, on_mesh = EACH * data, placed(encode, mesh, layout)
            spread, few = (
                jax.ShapeDtypeStruct((b, side, side, 3), "float32", sharding=at)
                for b, at in (
                    (batch, NamedSharding(mesh, PartitionSpec("data"))),
                    (EACH, NamedSharding(mesh, PartitionSpec())),
                )
            )
            programs = {forward: spread, fam_jax.explain_pairs: spread}
            if layout == "batch":  # a few references, which every device has
                programs[fam_jax.explain_all] = few
            for fn, references in programs.items():
                run = jax.jit(fn).lower(on_mesh, spread, references).compile()
                counts, received = collectives(run.as_text(), devices)
                moves = ", ".join(f"{counts[k]} {short}" for k, short in KINDS.items() if counts[k])
                flops = run.cost_analysis()["flops"] / batch
                row = name, layout, f"{data} x {model}", fn.__name__, moves or "none"
                print("row", *row, f"{received / 2**20:.2f} MiB", f"{flops / 1e6:.1f} M", sep="|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two devices, one network")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(int(options.child[0]), options.child[1:])
        return
    networks = ["cifar-resnet20"] if options.quick else list(NETWORKS)
    out = table(
        f"{EACH} pairs of images for each part of the data axis",
        *("network", "spread", "data x model", "program", "collectives"),
        *("a device receives", "FLOPs of a device / queries of all"),
    )
    for devices in (2,) if options.quick else (1, 2, 4, 8):
        flags = f"--xla_force_host_platform_device_count={devices}"
        run = subprocess.run(
            [sys.executable, Path(__file__), "--child", str(devices), *networks],
            env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        for line in run.stdout.splitlines():
            if line.startswith("row|"):
                out.add_row(*line.split("|")[1:])
    Console(width=180, highlight=False).print(out)


if __name__ == "__main__":
    main()
