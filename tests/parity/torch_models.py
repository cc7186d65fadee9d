"""The PyTorch side of the parity tests: torchvision's ResNets, and two small networks."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from torch import nn


def import_torchvision():
    """Torchvision without its compiled operators.

    A build for the processor may lack them; the models and transforms never call them, but the
    import registers rules for them, which needs the names to exist.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None:
        pytest.skip("needs torchvision")
    source = Path(spec.submodule_search_locations[0], "_meta_registrations.py").read_text()
    names = {"nms", *re.findall(r'register_meta\("(\w+)"', source)}
    names |= set(re.findall(r"torchvision::(\w+)", source))
    for name in names:
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", "(Tensor x) -> Tensor")
    import torchvision
    import torchvision.transforms

    return torchvision


class CifarBlock(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.extra = stride, width - inputs

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        if self.extra or self.stride > 1:
            side = torch.zeros_like(x[:, : self.extra // 2])
            x = torch.cat([side, x, side], 1)[:, :, :: self.stride, :: self.stride]
        return (y + x).relu()


class CifarResNet(nn.Module):
    def __init__(self, depth):
        super().__init__()
        n = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for i, (inputs, width, stride) in enumerate([(16, 16, 1), (16, 32, 2), (32, 64, 2)], 1):
            blocks = [CifarBlock(inputs, width, stride)]
            blocks += [CifarBlock(width, width, 1) for _ in range(n - 1)]
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))


def conv4(in_channels=3, width=64):
    """Conv-4 as a flat nn.Sequential; block b ends at index 4 b - 1."""
    layers = []
    for inputs in (in_channels, width, width, width):
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten())


@torch.no_grad()
def randomise(model, seed=0):
    """Random affine parameters and statistics for every batch norm, in evaluation mode."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.0)
            module.bias.normal_(0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def outputs(model, paths, images):
    """The embedding under "", and the output of the module at every path, channels last."""
    seen = {}
    hooks = [
        model.get_submodule(path).register_forward_hook(
            lambda module, args, out, name=name: seen.__setitem__(name, out)
        )
        for name, path in paths.items()
    ]
    with torch.no_grad():
        seen[""] = model(torch.as_tensor(images).permute(0, 3, 1, 2))
    for hook in hooks:
        hook.remove()
    return {
        name: (out.permute(0, 2, 3, 1) if out.ndim == 4 else out).numpy()
        for name, out in seen.items()
    }
