"""What maps cost in a training step, as multiples of the step without them.

    python benchmarks/training.py            # minutes on a CPU
    python benchmarks/training.py --quick    # tiny sizes, to see that it runs

A step of a prototypical network with batch norm in training mode: alone, with a `MapLogger` on
steps on which it does not look, and with a map loss (energy outside a mask, of `decomposition`) at
the last layer and further down, in one forward pass (`with_state`) and in a second. All take turns
in one process, so that a busy machine slows all; a ratio is the median of the ratios within the
rounds, and the arithmetic is what XLA counts in the compiled step.
"""

import argparse
import statistics
import tempfile
import time
import timeit
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich import box
from rich.console import Console
from rich.table import Table

import fam_jax
import pretrained_ports
from fam_jax.training import MapLogger, energy_outside

NETWORKS = {"conv4": ("block4", "block3", 84), "resnet12": ("layer4", "layer3", 42)}
QUICK = {"cifar-resnet20": ("layer3", "layer2", 16)}
WAYS = 8


def task(z):
    """Cross-entropy of all images against their classes' means, of 4 images each."""
    prototypes = z.reshape(WAYS, 4, -1).mean(1)
    distances = jnp.sum((z[:, None] - prototypes) ** 2, axis=2)
    right = jnp.repeat(jnp.eye(WAYS, dtype=bool), 4, axis=0)
    return -jnp.mean(jax.nn.log_softmax(-distances), where=right), jnp.repeat(prototypes, 4, axis=0)


def outside(encoding, references):
    maps = fam_jax.decomposition()(encoding, references)
    left = jnp.zeros(maps.shape, bool).at[:, :, : -(-maps.shape[2] // 2)].set(True)
    return energy_outside(maps, left).mean()


def plain(model, images):
    return task(model(images))[0]


def with_map(at, passes):
    def loss(model, images):
        encode = fam_jax.capture(model, at=at)
        if passes == 1:
            encoding, state = encode.with_state(images)
            nnx.update(model, state)
            value, references = task(encoding.embeddings)
        else:
            encoding = encode(images)
            value, references = task(model(images))
        return value + outside(encoding, references)

    return loss


class Step:
    """One kind of step, with a model and an optimiser of its own."""

    def __init__(self, name, loss, images, watch=None):
        backbone = pretrained_ports.create(name)
        backbone.model.train()
        optimizer = nnx.Optimizer(backbone.model, optax.sgd(1e-3), wrt=nnx.Param)
        self.args = backbone.model, optimizer, images
        self.watch, self.done = watch, 0

        @nnx.jit
        def step(model, optimizer, images):
            value, gradient = nnx.value_and_grad(loss)(model, images)
            optimizer.update(model, gradient)
            return value

        self.step = step

    def seconds(self):
        """How long one step takes."""
        start = time.perf_counter()
        if self.watch:
            self.watch(self.done, self.args[0])
        jax.block_until_ready(self.step(*self.args))
        self.done += 1
        return time.perf_counter() - start

    def gigaflops(self):
        """What XLA counts in the compiled step."""
        return self.step.lower(*self.args).compile().cost_analysis()["flops"] / 1e9


def pictures(name, pixels):
    channels = pretrained_ports.create(name).preprocess.channels
    shape = (4 * WAYS, pixels, pixels, channels)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def logger_alone(name, at, pixels, folder):
    """Seconds of a call between looks, and of a look at two pairs once that is compiled."""
    images, model = pictures(name, pixels), pretrained_ports.create(name).model
    with MapLogger(folder, images[:2], images[2:4], at=at, every=10**6) as logger:
        logger(0, model)
        return [
            min(timeit.repeat(partial(call, 1, model), number=number, repeat=5)) / number
            for call, number in ((logger, 10**5), (logger.log, 1))
        ]


def costs(name, last, lower, pixels, rounds, folder):
    images = pictures(name, pixels)
    logger = MapLogger(folder, images[:2], images[2:4], at=last, every=10**6)
    steps = {
        "the step": Step(name, plain, images),
        "+ MapLogger, between looks": Step(name, plain, images, logger),
        f"+ map loss at {last}": Step(name, with_map(last, 1), images),
        f"+ map loss at {lower}": Step(name, with_map(lower, 1), images),
        f"+ map loss at {last}, second pass": Step(name, with_map(last, 2), images),
    }
    for step in steps.values():
        step.seconds()  # compiles, and takes the logger's look at step 0
    logger.close()
    times = [{kind: step.seconds() for kind, step in steps.items()} for _ in range(rounds)]
    arithmetic = {kind: step.gigaflops() for kind, step in steps.items()}
    for kind in steps:
        yield (
            kind,
            statistics.median(t[kind] / t["the step"] for t in times),
            arithmetic[kind] / arithmetic["the step"],
            statistics.median(t[kind] for t in times),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    networks, rounds = (QUICK, 2) if options.quick else (NETWORKS, options.rounds)
    table = Table("network", "", "time", "arithmetic", "seconds", box=box.MARKDOWN)
    for name, (last, lower, pixels) in networks.items():
        with tempfile.TemporaryDirectory() as folder:
            for kind, ratio, flops, seconds in costs(name, last, lower, pixels, rounds, folder):
                table.add_row(name, kind, f"{ratio:.3f}", f"{flops:.3f}", f"{seconds:.3f}")
    print(f"{jax.devices()[0].device_kind}, {rounds} rounds, batch {4 * WAYS}")
    Console(width=100).print(table)
    for name, (last, _, pixels) in networks.items():
        with tempfile.TemporaryDirectory() as folder:
            between, look = logger_alone(name, last, pixels, folder)
        print(f"{name}: MapLogger {between * 1e6:.2f} us between looks, {look:.2f} s a look")


if __name__ == "__main__":
    main()
