"""The PyTorch side of `map_cost.py`: the same backbone, and the tools that explain it."""

import importlib
import importlib.util
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

_KEPT = []


def absent(*modules: str) -> list[str]:
    """Those of the modules that are not installed."""
    return [name for name in modules if importlib.util.find_spec(name) is None]


def import_torchvision():
    """Torchvision, also where its compiled operators cannot be loaded: its models need none."""
    import torch
    from torch import library

    package = importlib.util.find_spec("torchvision").submodule_search_locations[0]
    rules = Path(package, "_meta_registrations.py").read_text()
    mentioned = re.findall(r'register_meta\("(\w+)"|torchvision::(\w+)', rules)
    operators = library.Library("torchvision", "FRAGMENT")  # the names alone
    _KEPT.append(operators)  # they are gone with it
    for operator in {"nms", *(a or b for a, b in mentioned)}:
        if not hasattr(torch.ops.torchvision, operator):
            operators.define(f"{operator}(Tensor x) -> Tensor")
    return importlib.import_module("torchvision")


class Tool(NamedTuple):
    """A tool by its distribution's name, and the modules it takes beside torch and torchvision."""

    distribution: str
    modules: tuple[str, ...]
    pairs: Callable  # (side, images, references): a map of each image for its own reference
    many: Callable  # (side, image, references): a map of one image for each reference
    forward_each: bool  # whether `many` runs the network again for every reference

    def label(self) -> str:
        """Name and version."""
        return f"{self.distribution} {version(self.distribution)}"


class TorchSide:
    """A network without its classifier, random weights, on the CPU or one GPU."""

    def __init__(self, network: str, gpu: bool):
        import torch

        self.torch = torch
        self.device = "cuda" if gpu and torch.cuda.is_available() else "cpu"
        torch.manual_seed(0)
        self.network = getattr(import_torchvision().models, network)()
        self.dimensions = self.network.fc.in_features
        self.network.fc = torch.nn.Identity()
        self.network.eval().to(self.device)

    def random(self, *shape: int):
        """Normally distributed numbers."""
        return self.torch.randn(*shape, device=self.device)

    def embed(self, images) -> None:
        """The forward pass alone."""
        with self.torch.inference_mode():
            self.network(images)

    def job(self, run: Callable, *args) -> Callable[[], None]:
        """`run(*args)`, waiting for the device."""

        def timed():
            run(*args)
            if self.device == "cuda":
                self.torch.cuda.synchronize()

        return timed

    def cosine(self, reference) -> Callable:
        """A target as both tools understand it: the embedding of one image -> a number."""
        return lambda embedding: self.torch.cosine_similarity(embedding, reference, dim=0)


def _grad_cam_pairs(side, images, references):
    from pytorch_grad_cam import GradCAM

    with GradCAM(side.network, [side.network.layer4]) as cam:
        cam(images, [side.cosine(r) for r in references])


def _grad_cam_many(side, image, references):
    from pytorch_grad_cam import GradCAM

    with GradCAM(side.network, [side.network.layer4]) as cam:
        for r in references:
            cam(image, [side.cosine(r)])


def _torchcam_pairs(side, images, references):
    from torchcam.methods import GradCAM

    with GradCAM(side.network, side.network.layer4) as cam:
        cam(scores=side.network(images), targets=[side.cosine(r) for r in references])


def _torchcam_many(side, image, references):
    from torchcam.methods import GradCAM

    with GradCAM(side.network, side.network.layer4) as cam:
        scores = side.network(image)
        for r in references:
            cam(scores=scores, targets=side.cosine(r), retain_graph=True)


TOOLS = (
    Tool(
        "grad-cam",
        ("pytorch_grad_cam", "cv2", "ttach", "sklearn"),
        _grad_cam_pairs,
        _grad_cam_many,
        forward_each=True,
    ),
    Tool("torchcam", ("torchcam",), _torchcam_pairs, _torchcam_many, forward_each=False),
)
