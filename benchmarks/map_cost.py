"""What a heat-map costs: beside the forward pass, beside a hand-written FAM, beside PyTorch tools.

    python benchmarks/map_cost.py            # minutes on a CPU
    python benchmarks/map_cost.py --quick    # tiny sizes, to see that it runs

What is compared is timed in turns within one process, so that a busy machine slows all of it. A
time is the median over the rounds, a ratio the median of the ratios within the rounds.
"""

import argparse
import ctypes
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table
from timing import duration, in_turns, machine, ratio, ready, table
from torch_side import TOOLS, TorchSide, absent

import fam_jax
import pretrained_ports

HIGHEST = jax.lax.Precision.HIGHEST
EINSUM, FACTORED = "by hand, einsum", "by hand, factored"
OTHER_BY_HAND, OTHER = "contrastive by hand, factored", "explain_all, contrastive"
OTHER_EINSUM = "contrastive by hand, einsum"
OTHERS = 32  # references that are the background of the contrastive map

encode_pooled = fam_jax.encoder(lambda x: x, lambda A: A.mean((1, 2)))


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    network: str = "resnet50"
    batch: int = 8
    pixels: int = 224
    queries: int = 16
    references: int = 1000
    activations: tuple[int, int, int] = (7, 7, 2048)
    chunks: tuple[int, ...] = (16, 32, 64, 256)
    many: int = 100  # references of one image
    repeated: int = 10  # of these, how many are timed where each one costs a forward pass
    rounds: int = 9


QUICK = Sizes("resnet18", 2, 64, 2, 12, (3, 3, 32), (5,), 5, 2, 2)


def mebibytes(size: int | None) -> str:
    return "not measured" if size is None else f"{size / 2**20:.1f} MiB"


def random(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def torch_side(sizes: Sizes) -> TorchSide | None:
    """The network in PyTorch, if that is installed."""
    if absent("torch", "torchvision"):
        return None
    return TorchSide(sizes.network, gpu=jax.default_backend() == "gpu")


def pairs(sizes: Sizes, side: TorchSide | None) -> Table:
    """A batch of images, one reference each: every framework against its own embedding."""
    backbone = pretrained_ports.create(sizes.network)
    encode = fam_jax.capture(backbone)
    graph, state = nnx.split(backbone.model)
    embed = jax.jit(lambda state, images: nnx.merge(graph, state)(images))
    images = random(0, sizes.batch, sizes.pixels, sizes.pixels, 3)
    references = random(1, sizes.batch, backbone.embedding_dim)
    out = table(
        f"One reference an image: {sizes.network}, batch {sizes.batch}, {sizes.pixels} pixels",
        *("job", "time", "of the embedding", "aim"),
    )

    def report(framework, jobs, rounds, aims):
        seconds = in_turns(jobs, rounds)
        for name, times in seconds.items():
            cost = ratio(times, seconds["embedding only"])
            out.add_row(f"{framework}: {name}", duration(times), cost, aims.get(name, ""))

    explain = ready(fam_jax.explain, encode, images, references)
    jobs = {"embedding only": ready(embed, state, images), "fam_jax.explain": explain}
    report("JAX", jobs, 3 * sizes.rounds, {"fam_jax.explain": "1.05 x"})

    if side is None:
        out.add_row("PyTorch", "not installed", "", "")
        return out
    images = side.random(sizes.batch, 3, sizes.pixels, sizes.pixels)
    references = side.random(sizes.batch, side.dimensions)
    jobs = {"embedding only": side.job(side.embed, images)}
    for tool in TOOLS:
        if not absent(*tool.modules):
            jobs[tool.label()] = side.job(tool.pairs, side, images, references)
    report("PyTorch", jobs, sizes.rounds, {})
    for tool in TOOLS:
        if absent(*tool.modules):
            out.add_row(f"PyTorch: {tool.distribution}", "not installed", "", "")
    return out


def many_references(sizes: Sizes, side: TorchSide | None) -> Table:
    """One image against many references, its forward pass included."""
    backbone = pretrained_ports.create(sizes.network)
    encode = fam_jax.capture(backbone)
    image = random(0, 1, sizes.pixels, sizes.pixels, 3)
    references = random(1, sizes.many, backbone.embedding_dim)
    ours = "JAX: fam_jax.explain_all"
    jobs, counts = {ours: ready(fam_jax.explain_all, encode, image, references)}, {ours: sizes.many}

    missing = ["PyTorch"] if side is None else []
    for tool in TOOLS if side else ():
        if absent(*tool.modules):
            missing.append(f"PyTorch: {tool.distribution}")
            continue
        picture = side.random(1, 3, sizes.pixels, sizes.pixels)
        count = sizes.repeated if tool.forward_each else sizes.many
        label = f"PyTorch: {tool.label()}"
        label += f" ({count} of them timed)" if count < sizes.many else ""
        jobs[label] = side.job(tool.many, side, picture, side.random(count, side.dimensions))
        counts[label] = count

    out = table(
        f"One image, {sizes.many} references: {sizes.network}, {sizes.pixels} pixels",
        *("job", "time a reference", "of explain_all"),
    )
    seconds = in_turns(jobs, max(2, sizes.rounds // 3))
    each = {name: [s / counts[name] for s in times] for name, times in seconds.items()}
    for name, times in each.items():
        out.add_row(name, duration(times), ratio(times, each[ours]))
    for name in missing:
        out.add_row(name, "not installed", "")
    return out


def shares_by_hand(activations: jax.Array, references: jax.Array) -> tuple[jax.Array, ...]:
    """Cosine shares [q r d] for a mean-pooled layer, the two factors, smallest and largest."""
    z, r = activations.mean((1, 2)), references
    z = z / jnp.linalg.norm(z, axis=-1, keepdims=True)
    r = r / jnp.linalg.norm(r, axis=-1, keepdims=True)
    shares = z[:, None] * r[None]
    return shares, z, r, shares.min(-1, keepdims=True), shares.max(-1, keepdims=True)


def einsum_by_hand(encode, activations: jax.Array, references: jax.Array) -> jax.Array:
    """FAM as its formula reads: weights of every pair, then one contraction."""
    shares, _, _, low, high = shares_by_hand(activations, references)
    weights = (shares - low) / (high - low)
    return jnp.einsum("qrd,qhwd->qrhw", weights, activations, precision=HIGHEST)


def factored_by_hand(encode, activations: jax.Array, references: jax.Array) -> jax.Array:
    """FAM without the weights of every pair: one matrix product, then the smallest share off."""
    _, z, r, low, high = shares_by_hand(activations, references)
    product = jnp.einsum("qhwd,rd->qrhw", activations * z[:, None, None], r, precision=HIGHEST)
    plain = activations.sum(-1)[:, None]
    return (product - low[..., None] * plain) / (high - low)[..., None]


def contrastive_by_hand(encode, activations: jax.Array, references: jax.Array) -> jax.Array:
    """The contrastive map: its weights are linear in the reference, one matrix product is all."""
    length, weights = margin_by_hand(activations, references)
    scaled = activations / length[:, None, None, None]
    return jnp.einsum("qhwd,rd->qrhw", scaled, weights, precision=HIGHEST)


def contrastive_einsum(encode, activations: jax.Array, references: jax.Array) -> jax.Array:
    """The same from the weights of every pair, as any similarity has them, and nothing else."""
    length, weights = margin_by_hand(activations, references)
    pairs = weights[None] / length[:, None, None]
    return jnp.einsum("qhwd,qrd->qrhw", activations, pairs, precision=HIGHEST)


def margin_by_hand(activations: jax.Array, references: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lengths of the embeddings [q], and weights [r, d] of the cosine less the background's."""
    _, _, r, _, _ = shares_by_hand(activations[:1], references)
    weights = (r - r[:OTHERS].mean(0, keepdims=True)) / np.prod(activations.shape[1:3])
    return jnp.linalg.norm(activations.mean((1, 2)), axis=-1), weights


def contrastive(encode, activations: jax.Array, references: jax.Array) -> jax.Array:
    method = fam_jax.contrastive(references[:OTHERS])
    return fam_jax.explain_all(encode, activations, references, method).maps


def by_chunk(chunk: int) -> Callable:
    def explain_all(encode, activations, references):
        return fam_jax.explain_all(encode, activations, references, chunk=chunk).maps

    return explain_all


def all_pairs_jobs(sizes: Sizes) -> tuple[dict[str, Callable], tuple]:
    """What is compared, and the arguments of each."""
    fns = {EINSUM: einsum_by_hand, FACTORED: factored_by_hand}
    fns |= {f"explain_all, chunk {chunk}": by_chunk(chunk) for chunk in sizes.chunks}
    fns |= {OTHER_BY_HAND: contrastive_by_hand, OTHER_EINSUM: contrastive_einsum}
    fns[OTHER] = contrastive
    activations = jax.nn.relu(random(2, sizes.queries, *sizes.activations))
    references = jax.nn.relu(random(3, sizes.references, sizes.activations[-1]))
    return fns, (encode_pooled, activations, references)


def growth(sizes: Sizes, name: str) -> int | None:
    """Bytes by which a fresh process grows at most in one run of a job (Linux; None elsewhere)."""

    def status(field: str) -> int:
        return 1024 * int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1])

    fns, args = all_pairs_jobs(sizes)
    run = jax.jit(fns[name]).lower(*args).compile()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # memory that is free already would hide what is taken
        Path("/proc/self/clear_refs").write_text("5")  # forgets the highest value so far
        before = status("VmRSS")
        jax.block_until_ready(run(*args))
        return status("VmHWM") - before
    except (OSError, AttributeError, TypeError):
        return None


def in_fresh_process(fn: Callable, *args) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(fn, *args).result()


def all_pairs(sizes: Sizes) -> Table:
    """`explain_all` on given encodings against two hand-written versions."""
    fns, args = all_pairs_jobs(sizes)
    compiled = {name: jax.jit(fn).lower(*args).compile() for name, fn in fns.items()}
    jobs = {name: ready(run, *args) for name, run in compiled.items()}
    for name, job in jobs.items():
        expected = jobs[OTHER_BY_HAND if name in (OTHER, OTHER_EINSUM) else EINSUM]()
        if name != OTHER_BY_HAND:
            np.testing.assert_allclose(job(), expected, rtol=0, atol=1e-5 * abs(expected).max())

    seconds = in_turns(jobs, sizes.rounds)
    shape = ", ".join(map(str, sizes.activations))
    out = table(
        f"{sizes.queries} x {sizes.references} pairs, encodings [{shape}] given (aim: 3 x)",
        *("job", "time a pair", "of einsum", "of factored", "XLA temporaries", "process grows by"),
    )
    on_cpu = jax.default_backend() == "cpu"
    for name, run in compiled.items():
        analysis = run.memory_analysis()
        out.add_row(
            name,
            duration([s / (sizes.queries * sizes.references) for s in seconds[name]]),
            ratio(seconds[name], seconds[EINSUM]),
            ratio(seconds[name], seconds[FACTORED]),
            mebibytes(analysis and analysis.temp_size_in_bytes),
            mebibytes(in_fresh_process(growth, sizes, name) if on_cpu else None),
        )
    return out


def tables(sizes: Sizes) -> Iterator[Table]:
    side = torch_side(sizes)
    yield pairs(sizes, side)
    yield all_pairs(sizes)
    yield many_references(sizes, side)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the numbers mean nothing")
    parser.add_argument("--rounds", type=int, help="how often everything is timed")
    options = parser.parse_args()
    sizes = QUICK if options.quick else Sizes()
    sizes = replace(sizes, rounds=options.rounds or sizes.rounds)
    console = Console(width=120, highlight=False)
    console.print(machine())
    for part in tables(sizes):
        console.print()
        console.print(part)


if __name__ == "__main__":
    main()
