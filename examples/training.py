"""What the training scripts share: the descent, intervals, a file that is checked by reading it."""

import time

import jax
import numpy as np
import optax
from flax import nnx
from scipy.stats import t as student

import pretrained_ports
from pretrained_ports.checkpoints import write

RATE = 4e-3


def descend(trained, kept, loss, steps, seed, rate=RATE, watch=None):
    """Minimise a loss over the parameters of `trained`, and put that in evaluation mode.

    Args:
        trained: Module whose parameters are fitted, by AdamW with a warm-up and a cosine decay.
        kept: Module or None for what changes without a gradient: a momentum encoder, a queue.
        loss: (trained, kept, key) -> a number; draws its own batch.
        steps: How many.
        seed: Of the batches.
        rate: The highest learning rate.
        watch: Called with the number of updates done and `trained`, before each of them and at
            the end: a `fam_jax.training.MapLogger`.

    Returns:
        Processor seconds that it took, the compilation included.
    """
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, steps // 10, steps, rate / 100)
    descent = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-3))
    optimizer = nnx.Optimizer(trained, descent, wrt=nnx.Param)

    @nnx.jit
    def step(trained, kept, optimizer, key):
        value, gradient = nnx.value_and_grad(loss)(trained, kept, key)
        optimizer.update(trained, gradient)
        return value

    start = time.process_time()
    for i in range(steps):
        if watch:
            watch(i, trained)
        value = step(trained, kept, optimizer, jax.random.fold_in(jax.random.key(seed), i))
        if i % 50 == 0 or i == steps - 1:
            print(
                f"step {i:4d}  loss {value:.3f}  {time.process_time() - start:4.0f} s", flush=True
            )
    if watch:
        watch(steps, trained)
    trained.eval()
    return time.process_time() - start


def interval(values):
    """Mean and half width of its 95 % interval (Student's t) over networks or episodes, as text."""
    half = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.3f} +- {half:.3f}"


@nnx.jit
def embed(model, images):
    """Embeddings [b d], compiled once for models of one architecture."""
    return model(images)


def save(out, model, about, pixels, head="drop"):
    """Write the weights, and see that what is loaded from them embeds `pixels` the same.

    Returns:
        How to load them, in one line.

    Raises:
        ValueError: They give other embeddings.
    """
    write(out, model, about)
    loaded = pretrained_ports.load(about["architecture"], weights=out, head=head)
    images = loaded.preprocess.normalise(pixels)
    embeddings = np.asarray(embed(loaded.model, images))
    if not np.array_equal(embeddings, embed(model, images)):
        raise ValueError(f"{out} does not give the embeddings of the network it was written from")
    signs = "signed" if (embeddings < 0).any() else "never negative"
    return (
        f'wrote {out}: load("{loaded.name}", weights="{out}", head="{head}") of pretrained_ports '
        f"embeds in {loaded.embedding_dim} channels, {signs}"
    )
