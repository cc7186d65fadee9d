"""What a forward pass costs: the same network, with the same weights, in JAX and in PyTorch.

    OMP_WAIT_POLICY=passive python benchmarks/forward.py            # a minute or two on a CPU
    OMP_WAIT_POLICY=passive python benchmarks/forward.py --quick    # tiny sizes: that it runs

PyTorch runs as its users run it, op by op, on images of both memory layouts; JAX is compiled. What
is compared is timed in turns within one process. A time is the median over the rounds, a ratio the
median of the ratios within the rounds. The setting keeps PyTorch's threads from spinning while JAX
has the cores.
"""

import argparse
import copy
from collections.abc import Iterator

import jax
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table
from timing import duration, in_turns, machine, ratio, ready, table
from torch_side import absent, import_torchvision

import pretrained_ports
from pretrained_ports.checkpoints import Checkpoint

# Our name -> the model of torchvision or timm.
NETWORKS = {
    "resnet50": ("torchvision", "resnet50"),
    "vit-small-patch16": ("timm", "vit_small_patch16_224"),
}
QUICK = {"resnet18": ("torchvision", "resnet18")}


def original(package: str, name: str):
    """The PyTorch network without its classifier, with random weights."""
    import torch

    torch.manual_seed(0)
    models = import_torchvision().models
    if package == "timm":
        import timm

        return timm.create_model(name, num_classes=0).eval()
    network = getattr(models, name)().eval()
    network.fc = torch.nn.Identity()
    return network


def forward(name: str, source: tuple[str, str], batch: int, pixels: int, rounds: int) -> Table:
    """One network, both frameworks, after a check that they give the same embeddings."""
    import torch

    network = original(*source)
    weights = {key: value.numpy() for key, value in network.state_dict().items()}
    backbone = pretrained_ports.load(name, Checkpoint(f"{source[0]} {source[1]}", weights))
    graph, state = nnx.split(backbone.model)
    embed = jax.jit(lambda state, images: nnx.merge(graph, state)(images))
    images = np.random.default_rng(0).standard_normal((batch, pixels, pixels, 3), "f")

    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    planar = torch.as_tensor(images).permute(0, 3, 1, 2).contiguous().to(device)
    interleaved = planar.to(memory_format=torch.channels_last)
    network = network.to(device)
    twin = copy.deepcopy(network).to(memory_format=torch.channels_last)

    def eager(model, pictures):
        def run():
            with torch.inference_mode():
                out = model(pictures)
            if device == "cuda":
                torch.cuda.synchronize()
            return out

        return run

    jobs = {
        "JAX": ready(embed, state, jax.device_put(images)),
        "PyTorch, NCHW": eager(network, planar),
        "PyTorch, channels last": eager(twin, interleaved),
    }
    expected = np.asarray(jobs["PyTorch, NCHW"]().cpu())
    if device == "cpu":  # accelerators multiply in lower precision unless told otherwise
        difference = np.abs(np.asarray(jobs["JAX"]()) - expected).max()
        assert difference <= 1e-4 * np.abs(expected).max()

    seconds = in_turns(jobs, rounds)
    out = table(
        f"Forward pass: {name}, batch {batch}, {pixels} pixels",
        *("framework", "time", "fastest", "of NCHW", "of channels last"),
    )
    for job, times in seconds.items():
        out.add_row(
            job,
            duration(times),
            duration([min(times)]),
            ratio(times, seconds["PyTorch, NCHW"]),
            ratio(times, seconds["PyTorch, channels last"]),
        )
    return out


def tables(quick: bool, rounds: int) -> Iterator[Table]:
    for name, source in (QUICK if quick else NETWORKS).items():
        if name in pretrained_ports.names() and not absent("torchvision", source[0]):
            yield forward(name, source, *((2, 64, 2) if quick else (8, 224, rounds)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the numbers mean nothing")
    parser.add_argument("--rounds", type=int, default=15, help="how often everything is timed")
    options = parser.parse_args()
    console = Console(width=120, highlight=False)
    console.print(machine())
    if missing := absent("torch", "torchvision"):
        console.print(f"nothing to compare with: {', '.join(missing)} not installed")
        return
    for part in tables(options.quick, options.rounds):
        console.print()
        console.print(part)


if __name__ == "__main__":
    main()
