"""What every method costs, as a multiple of one forward pass of the same images.

    python benchmarks/methods.py            # minutes on a CPU
    python benchmarks/methods.py --quick    # tiny sizes, to see that it runs

Each method is the one that `fam-jax evaluate` runs, on images, from pixels to raw maps. A last row
goes back through a whole transformer, its gates held constant. All take turns with the plain
embedding in one process, so that a busy machine slows both; the ratio is the median of the ratios
within the rounds.
"""

import argparse
import statistics
import time
from collections.abc import Iterable
from functools import partial

import jax
import numpy as np
from rich.console import Console
from timing import table

import fam_jax
from fam_jax.apps.network import RANDOM, open_network
from fam_jax.evaluate.asking import Question, answer
from fam_jax.evaluate.network import Network

NETWORKS = {"resnet18": 128, "deit-tiny-patch16": 128}  # pixels
QUICK = {"cifar-resnet20": 16, "vit-mini-patch8": 16}
QUICK_METHODS = ("fam", "grad-cam", "relevance-cam", "chefer", "occlusion")
SLOW = 20.0  # multiples of the forward pass from which one round is enough
FROZEN = "frozen gates, at patch_embed (aim: 2.5)"


def question(network: Network, batch: int) -> Question:
    rng = np.random.default_rng(0)
    shape = (batch, *network.size, network.backbone.preprocess.channels)
    images, others = rng.normal(size=(2, *shape)).astype(np.float32)
    background = network.embed(np.concatenate([others] * 4))
    return Question(images, network.embed(others), background, others)


def by_frozen_gates(network: Network, asked: Question):
    """A job: the map at a transformer's first layer, which the whole network is pulled back to."""
    encode = fam_jax.capture(network.backbone.model, at="patch_embed", gates="frozen")
    return partial(fam_jax.explain, encode, asked.images, asked.references, fam_jax.decomposition())


def seconds(job) -> float:
    start = time.perf_counter()
    jax.block_until_ready(job())
    return time.perf_counter() - start


def multiple(job, forward, rounds: int) -> float:
    """How many times as long `job` takes as `forward`."""
    seconds(job)  # compiles
    ratios = [seconds(job) / seconds(forward)]
    if ratios[0] < SLOW:
        ratios += [seconds(job) / seconds(forward) for _ in range(rounds - 1)]
    return statistics.median(ratios)


def costs(
    name: str, pixels: int, methods: Iterable[str], batch: int, rounds: int
) -> tuple[dict[str, str], dict[str, str]]:
    """Method -> multiple of the forward pass, and method -> why there is none."""
    net = open_network(name, RANDOM, image_size=pixels)
    network = Network(net.backbone, net.encode, fam_jax.cosine)
    asked = question(network, batch)
    embed = jax.jit(lambda encode, images: encode(images).embeddings)
    forward = lambda: embed(network.encode, asked.images)  # noqa: E731
    seconds(forward)
    multiples, refusals = {}, {}
    for method in methods:
        try:
            if method == FROZEN:
                explain = by_frozen_gates(network, asked)
            else:
                explain = partial(answer, method, network.encode, network.similarity, asked)
            multiples[method] = f"{multiple(explain, forward, rounds):.3g}"
        except (TypeError, ValueError) as why:
            refusals[method] = str(why)
    return multiples, refusals


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    networks, methods = (
        (QUICK, QUICK_METHODS) if options.quick else (NETWORKS, tuple(fam_jax.methods.names()))
    )
    methods += (FROZEN,)
    batch, rounds = (2, 1) if options.quick else (options.batch, options.rounds)

    title = f"Forward passes of {batch} images that one map of each costs"
    columns = [costs(*network, methods, batch, rounds) for network in networks.items()]
    out = table(title, "method", *(f"{name}, {pixels} px" for name, pixels in networks.items()))
    for method in methods:
        out.add_row(method, *(multiples.get(method, "none") for multiples, _ in columns))
    console = Console(width=200)
    console.print(out)
    # Below the table: a sentence in a cell would take the width from the others.
    for name, (_, refusals) in zip(networks, columns, strict=True):
        for method, why in refusals.items():
            console.print(f"{name}, {method}: {why}", soft_wrap=True, markup=False, highlight=False)


if __name__ == "__main__":
    main()
