"""The same training step over a mesh of devices and on one: equal up to the rounding of sums.

    pip install ".[demo,train]"
    python examples/data_parallel.py

A minute or two on two processor cores. The step has what goes wrong easily when a batch is spread:
batch norm, whose statistics are those of the whole batch, and a loss on maps. Nothing in it knows
of devices: the batch lies along a mesh axis, parameters and optimiser are copied to every device,
and the compiler adds the sums over the batch; the script counts those.

Both ways take the same steps in float32 and in float64. The order of the sums is another, so expect
differences of rounding: in float64 millions of times smaller, where a mistake would stay what it
is. Beyond the tolerance the exit code is 1. With one device only, the processor is split into
eight. Also written: maps of pairs of digits, explained with the spread network, in `strip.png`.
"""

import argparse
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

import fam_jax
from fam_jax._core.similarity import normalize
from fam_jax.training import MapLogger, disagreement
from pretrained_ports.models.layers import batch_norm, conv

LAYER = "layer2"
CLASSES = 10  # and as many pictures on every device
SCALE = 10.0  # of the cosines in the softmax
WEIGHT = 0.5  # of the loss on maps
# Small, and without Adam, which divides a gradient by its size: else rounding grows by jumps.
RATE = 0.01
# A step's rounding is some 1e-7 and 1e-16, and training amplifies it from step to step.
TOLERANCE = {"float32": 1e-4, "float64": 1e-12}


class Net(nnx.Module):
    """Two layers and a mean: [b 16 16 1] -> [b 64], with a map of 8 x 8."""

    # Strides and no maximum pooling: that sends a gradient where rounding finds the maximum.

    def __init__(self, dtype):
        kind = {"rngs": nnx.Rngs(0), "param_dtype": dtype}

        def layer(inputs, outputs, stride):
            return nnx.Sequential(
                conv(inputs, outputs, 3, stride=stride, **kind),
                batch_norm(outputs, **kind),
                nnx.relu,
            )

        self.layer1, self.layer2 = layer(1, 32, 1), layer(32, 64, 2)

    def __call__(self, images):
        """Embeddings [b 64]."""
        return self.layer2(self.layer1(images)).mean((1, 2))


def digits():
    """scikit-learn's digits of every class at 16 x 16, [10 n 16 16 1], levels 0 to 1."""
    pixels, labels = load_digits(return_X_y=True)
    least = np.bincount(labels).min()
    pixels = np.stack([pixels[labels == c][:least] for c in range(CLASSES)]) / 16
    return pixels.reshape(CLASSES, least, 8, 8, 1).repeat(2, axis=2).repeat(2, axis=3)


def batch(pictures, each, seed):
    """`each` pictures of every class, one class after the other: [10 each, 16 16 1], labels."""
    rng = np.random.default_rng(seed)
    drawn = [of_class[rng.choice(len(of_class), each, replace=False)] for of_class in pictures]
    return np.concatenate(drawn), np.repeat(np.arange(CLASSES), each)


@nnx.jit
def step(model, optimizer, images, labels):
    """One update on images [b H W 1] with labels [b]; the loss, and the maps' part of it."""

    def loss(model):
        # A picture and its mirror image side by side: both then lie on the same device.
        views = jnp.stack([images, images[:, :, ::-1]], axis=1).reshape(-1, *images.shape[1:])
        enc, state = fam_jax.capture(model, at=LAYER).with_state(views)
        nnx.update(model, state)
        of_views = jnp.repeat(labels, 2)
        prototypes = fam_jax.prototypes(enc.embeddings, of_views, CLASSES)
        logits = SCALE * normalize(enc.embeddings) @ normalize(prototypes).T
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, of_views)
        maps = fam_jax.decomposition()(enc, prototypes[of_views])
        maps = maps.reshape(-1, 2, *maps.shape[1:])
        apart = jnp.mean(disagreement(maps[:, 0, :, ::-1], maps[:, 1]))
        return jnp.mean(entropy) + WEIGHT * apart, apart

    values, gradient = nnx.value_and_grad(loss, has_aux=True)(model)
    optimizer.update(model, gradient)
    return jnp.stack(values)


def train(batches, dtype, place, shard, look=lambda step, model: None):
    """The network, every step's loss and maps' part [steps 2], and the compiled step's text.

    `place` is the sharding of the network and of the optimiser, `shard` that of the batch.
    """
    model = Net(dtype)
    model.train()
    optimizer = nnx.Optimizer(model, optax.sgd(RATE, momentum=0.9), wrt=nnx.Param)
    for module in (model, optimizer):
        nnx.update(module, jax.device_put(nnx.state(module), place))
    values, program = [], None
    for done, (images, labels) in enumerate(batches):
        look(done, model)
        inputs = jax.device_put((images.astype(dtype), labels), shard)
        program = program or step.lower(model, optimizer, *inputs).compile()
        values.append(program(model, optimizer, *inputs))
    look(len(batches), model)
    model.eval()
    return model, np.array(values), program.as_text()


def difference(ours, theirs):
    """The largest difference of two trees' arrays, relative to the largest value of the array."""
    pairs = zip(*(map(np.asarray, jax.tree.leaves(tree)) for tree in (ours, theirs)), strict=True)
    return max(np.max(np.abs(a - b)) / np.max(np.abs(b)) for a, b in pairs)


def compare(batches, dtype, devices, *look):
    """Train both ways, print how far apart they are, and say whether that is rounding."""
    # Auto: the compiler is to find out how everything but the arguments is spread.
    kind = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((len(devices),), ("batch",), kind, devices=devices)
    place, shard = jax.NamedSharding(mesh, jax.P()), jax.NamedSharding(mesh, jax.P("batch"))
    alone = jax.sharding.SingleDeviceSharding(devices[0])
    many, values, text = train(batches, dtype, place, shard, *look)
    one, expected, _ = train(batches, dtype, alone, alone)
    print(f"{dtype}: loss {expected[0, 0]:.3f} to {expected[-1, 0]:.3f} in {len(batches)} steps")
    apart = {"loss": (values[:, 0], expected[:, 0]), "maps' part": (values[:, 1], expected[:, 1])}
    for what, variables in {"parameters": nnx.Param, "running statistics": nnx.BatchStat}.items():
        apart[what] = [nnx.state(model, variables) for model in (many, one)]
    apart = {what: difference(*both) for what, both in apart.items()}
    gaps = ", ".join(f"{what} {gap:.1e}" for what, gap in apart.items())
    print(f"  largest relative differences: {gaps} (tolerance {TOLERANCE[dtype]:.0e})")
    sums = len(re.findall(r" all-reduce(?:-start)?\(", text))
    print(f"  sums over the devices in a step: {sums}", flush=True)
    return all(gap <= TOLERANCE[dtype] for gap in apart.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("data_parallel"), help="folder for maps")
    parser.add_argument("--quick", action="store_true", help="three steps in float32, no more")
    options = parser.parse_args()
    steps = 3 if options.quick else options.steps
    if (options.out / "maps").exists():
        parser.error(f"{options.out} holds maps already; take another folder (--out)")

    # Forced devices of the processor only: accelerators stay what they are.
    jax.config.update("jax_num_cpu_devices", 8)
    devices = jax.devices() if len(jax.devices()) > 1 else jax.devices("cpu")
    print(f"{len(devices)} devices: {devices[0].device_kind}")
    # Or else accelerators round the factors of a product, too.
    jax.config.update("jax_default_matmul_precision", "highest")
    pictures = digits()
    batches = [batch(pictures, len(devices), seed) for seed in range(steps)]
    pairs = pictures[:4, :2].astype("float32").swapaxes(0, 1)
    with MapLogger(options.out, *pairs, at=LAYER, every=max(1, steps // 5)) as logger:
        equal = compare(batches, "float32", devices, logger)
    print(f"wrote {options.out / 'strip.png'}", flush=True)
    if not options.quick:
        jax.config.update("jax_enable_x64", True)
        equal &= compare(batches, "float64", devices)
    if not equal:
        sys.exit("the mesh and the single device differ by more than rounding")


if __name__ == "__main__":
    main()
