"""What every metric of a map costs: as a multiple of a forward pass, and beside PyTorch.

    OMP_WAIT_POLICY=passive python benchmarks/metrics.py            # minutes on a CPU
    OMP_WAIT_POLICY=passive python benchmarks/metrics.py --quick    # tiny sizes: that it runs

A metric takes turns with the plain embedding of the same images in one process, so that a busy
machine slows both; what costs many forward passes is timed once. PyTorch has the same network with
the same weights: `road` against pytorch-grad-cam's, `deletion` and `insertion` against a plain loop
that gives the same curves and embeds as many images at a time.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from methods import multiple, seconds
from rich.console import Console
from rich.table import Table
from timing import duration, in_turns, machine, ratio, ready, table
from torch_side import TOOLS, TorchSide, absent, import_torchvision

import fam_jax
import pretrained_ports
from fam_jax import metrics
from pretrained_ports.checkpoints import Checkpoint

CHUNK = 8  # changed copies of the batch that are embedded at a time, on both sides
GRAD_CAM = TOOLS[0]


class Pairs(NamedTuple):
    """Pairs of images with maps of random numbers: costs depend on no value."""

    encode: fam_jax.Encoder
    images: jax.Array
    others: jax.Array  # the other image of each
    references: jax.Array  # their embeddings
    maps: jax.Array  # as fine as a method's
    large: jax.Array  # as fine as the images, every pixel of another value
    masks: jax.Array  # where they should be high
    key: jax.Array

    @classmethod
    def of(cls, encode: fam_jax.Encoder, pixels: int, batch: int) -> "Pairs":
        """As many pairs of images with random pixels."""
        rng = np.random.default_rng(0)
        images, others = jnp.asarray(rng.standard_normal((2, batch, pixels, pixels, 3), "f"))
        grid = jax.eval_shape(encode, images).activations.shape[:3]
        maps = jnp.asarray(rng.standard_normal(grid, "f"))
        order = [rng.permutation(pixels * pixels) for _ in range(batch)]
        large = jnp.asarray(np.stack(order).reshape(batch, pixels, pixels).astype("f"))
        masks = large < pixels * pixels / 4
        references = _embed(encode, others)
        return cls(encode, images, others, references, maps, large, masks, jax.random.key(0))

    def scored(self, metric: Callable, *args, **options):
        """A metric that embeds changed images."""
        return metric(self.encode, self.images, self.references, self.maps, *args, **options)

    def both(self, metric: Callable):
        """A metric that changes both images of a pair."""
        return metric(self.encode, self.images, self.others, self.maps, self.maps, chunk=CHUNK)

    def explain(self) -> Callable:
        """Images -> maps."""
        return partial(_explain, self.encode, self.references)


def _explain(encode, references, images):
    return fam_jax.decomposition()(encode(images), references)


@jax.jit
def _embed(encode, images):
    return encode(images).embeddings


METRICS: dict[str, Callable[[Pairs], object]] = {
    # along curves of changed images
    "deletion": lambda p: p.scored(metrics.deletion, chunk=CHUNK),
    "insertion": lambda p: p.scored(metrics.insertion, chunk=CHUNK),
    "aid": lambda p: p.scored(metrics.aid, chunk=CHUNK),
    "deletion_pairs": lambda p: p.both(metrics.deletion_pairs),
    "insertion_pairs": lambda p: p.both(metrics.insertion_pairs),
    "road": lambda p: p.scored(metrics.road, p.key, chunk=CHUNK),
    "road_combined": lambda p: p.scored(metrics.road_combined, p.key, chunk=CHUNK),
    # of an image changed once
    "masked_scores": lambda p: p.scored(metrics.masked_scores),
    "average_drop": lambda p: p.scored(metrics.average_drop),
    "increase": lambda p: p.scored(metrics.increase),
    "fewshot_fidelity": lambda p: p.scored(metrics.fewshot_fidelity),
    # of the method, which makes maps again
    "coherency": lambda p: metrics.coherency(p.explain(), p.images),
    "max_sensitivity": lambda p: metrics.max_sensitivity(p.explain(), p.images, p.key),
    # of the map alone, at the images' resolution
    "complexity": lambda p: metrics.complexity(p.large),
    "spearman": lambda p: metrics.spearman(p.large, p.large[:, ::-1]),
    "energy_in": lambda p: metrics.energy_in(p.large, p.masks),
    "pointing": lambda p: metrics.pointing(p.large, p.masks),
    "iou": lambda p: metrics.iou(p.large, p.masks),
    "rank_in": lambda p: metrics.rank_in(p.large, p.masks),
    "box_of": lambda p: metrics.box_of(p.large),
    "box_hit": lambda p: metrics.box_hit(p.large, jnp.ones((len(p.large), 4))),
    "completeness_error": lambda p: metrics.completeness_error(p.maps, p.references[:, 0]),
    "endpoint_error": lambda p: metrics.endpoint_error(p.images[..., :2], p.others[..., :2]),
}


def capture(backbone: pretrained_ports.Backbone) -> fam_jax.Encoder:
    return fam_jax.capture(backbone)


def of_a_forward_pass(
    name: str, encode: fam_jax.Encoder, pixels: int, batch: int, rounds: int
) -> Table:
    """Every metric beside the embedding; a curve has `pixels` + 1 steps."""
    pairs = Pairs.of(encode, pixels, batch)
    forward = partial(_embed, pairs.encode, pairs.images)
    seconds(forward)
    out = table(
        "Forward passes that a metric costs",
        *("metric", f"{name}, {pixels} px, {batch} pairs"),
    )
    for metric, measure in METRICS.items():
        out.add_row(metric, f"{multiple(partial(measure, pairs), forward, rounds):.3g}")
    return out


def torch_curve(side: TorchSide, before, after, maps, references):
    """Scores [b, steps + 1] as pixels change from one tensor to the other, a row's worth a step."""
    torch = side.torch
    batch, _, height, width = before.shape
    ranks = maps.flatten(1).argsort(1, descending=True).argsort(1).view(batch, 1, height, width)
    scores = []
    with torch.inference_mode():
        for counts in (torch.arange(height + 1, device=side.device) * width).split(CHUNK):
            changed = ranks < counts.view(-1, 1, 1, 1, 1)
            pictures = torch.where(changed, after, before)
            z = side.network(pictures.flatten(0, 1)).unflatten(0, (len(counts), batch))
            scores.append(torch.cosine_similarity(z, references[None], dim=2))
    return torch.cat(scores).T


def torch_deletion(side: TorchSide, images, maps, references):
    mean = images.mean((2, 3), keepdim=True)
    return torch_curve(side, images, mean, maps, references)


def torch_insertion(side: TorchSide, images, maps, references):
    """From the blur that `insertion` has: edges are held."""
    radius = max(1, round((11 * images.shape[2] / 224 - 1) / 2))
    width = 2 * radius + 1
    held = side.torch.nn.functional.pad(images, (radius,) * 4, mode="replicate")
    blur = import_torchvision().transforms.functional.gaussian_blur
    blurred = blur(held, [width] * 2, [5 / 11 * width] * 2)[..., radius:-radius, radius:-radius]
    return torch_curve(side, blurred, images, maps, references)


def torch_road(side: TorchSide, images, maps, references):
    from pytorch_grad_cam.metrics.road import ROADMostRelevantFirstAverage

    targets = [side.cosine(reference) for reference in references]
    return ROADMostRelevantFirstAverage()(images, maps.cpu().numpy(), targets, side.network)


def beside_torch(pixels: int, batch: int, rounds: int) -> Table:
    """The same metrics of the same network and images in both frameworks."""
    side = TorchSide("resnet18", gpu=jax.default_backend() == "gpu")
    weights = {key: value.cpu().numpy() for key, value in side.network.state_dict().items()}
    backbone = pretrained_ports.load("resnet18", Checkpoint(Path("torchvision"), weights))
    encode = capture(backbone)
    pairs = Pairs.of(encode, pixels, batch)
    args = pairs.encode, pairs.images, pairs.references, pairs.large

    def tensor(array: jax.Array):
        return side.torch.tensor(np.asarray(array), device=side.device)

    images = tensor(pairs.images).permute(0, 3, 1, 2).contiguous()
    theirs = side, images, tensor(pairs.large), tensor(pairs.references)
    forward = partial(_embed, encode, pairs.images)
    deletion, insertion = (
        partial(metric, *args, chunk=CHUNK) for metric in (metrics.deletion, metrics.insertion)
    )
    jobs = {  # metric -> its job in JAX, PyTorch's, and whose that is
        "forward pass": (forward, partial(side.embed, images), "PyTorch"),
        "deletion": (deletion, partial(torch_deletion, *theirs), "plain loop"),
        "insertion": (insertion, partial(torch_insertion, *theirs), "plain loop"),
    }
    for metric in ("deletion", "insertion"):
        ours, plain, _ = jobs[metric]
        difference = np.abs(np.asarray(ours().values) - plain().cpu().numpy()).max()
        # Accelerators multiply in lower precision unless told otherwise.
        assert side.device != "cpu" or difference <= 1e-3, (metric, difference)
    if not absent(*GRAD_CAM.modules):
        road = partial(metrics.road, *args, pairs.key, chunk=CHUNK)
        jobs["road"] = (road, partial(torch_road, *theirs), GRAD_CAM.label())

    sides = ("JAX", "PyTorch")
    out = table(
        f"Beside PyTorch: resnet18, {pixels} pixels, {batch} pairs",
        *("metric", *sides, "PyTorch / JAX"),
        *(f"{name} / its forward pass" for name in sides),
        "in PyTorch",
    )
    timed = {}
    for metric, (ours, other, _) in jobs.items():
        timed[metric, "JAX"], timed[metric, "PyTorch"] = ready(ours), side.job(other)
    measured = in_turns(timed, rounds)
    for metric, (*_, tool) in jobs.items():
        ours, other = (measured[metric, name] for name in sides)
        passes = [ratio(measured[metric, name], measured["forward pass", name]) for name in sides]
        out.add_row(metric, duration(ours), duration(other), ratio(other, ours), *passes, tool)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the numbers mean nothing")
    parser.add_argument("--network", default="resnet18", help="of the first table")
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--batch", type=int, default=2, help="pairs")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is timed")
    options = parser.parse_args()
    sizes = options.pixels, options.batch, options.rounds
    console = Console(width=160, highlight=False)
    console.print(machine(), "\n")
    if options.quick:
        pooled = fam_jax.encoder(jnp.tanh, lambda A: A.mean((1, 2)))  # compiles fast
        first = of_a_forward_pass("no network", pooled, 16, 2, 1)
    else:
        encode = capture(pretrained_ports.create(options.network))
        first = of_a_forward_pass(options.network, encode, *sizes)
    console.print(first, "\n")
    if missing := absent("torch", "torchvision"):
        console.print(f"nothing to compare with: {', '.join(missing)} not installed")
        return
    if missing := absent(*GRAD_CAM.modules):
        console.print(f"no road of {GRAD_CAM.distribution}: {', '.join(missing)} not installed")
    console.print(beside_torch(*((16, 2, 1) if options.quick else sizes)))


if __name__ == "__main__":
    main()
