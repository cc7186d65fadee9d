"""Weights of models whose layers have the same names in PyTorch, as PyTorch would save them."""

from functools import cache

import numpy as np

from pretrained_ports.catalog import find_entry
from pretrained_ports.catalog.entry import abstract
from pretrained_ports.checkpoints.readers import unwrap
from pretrained_ports.models.state import parameters

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


@cache
def tensors(name, value=0.0):
    """One number everywhere, under PyTorch's names and in its shapes."""
    arrays = {}
    for path, like in parameters(abstract(find_entry(name))).items():
        layer, _, leaf = path.rpartition(".")
        axes = {4: [3, 2, 0, 1], 2: [1, 0]}.get(len(like.shape))
        shape = np.array(like.shape)[axes] if leaf == "kernel" else like.shape
        key = f"{layer}.{_LEAVES.get(leaf, leaf)}" if layer else leaf
        arrays[key] = np.full(shape, value, np.float32)
    return arrays


def behind(prefix, arrays):
    """The same with a prefix before every name."""
    return {prefix + key: array for key, array in arrays.items()}


def of(model):
    """The weights of a convolutional network, under PyTorch's names and in its layouts."""
    arrays = {}
    for path, value in parameters(model).items():
        layer, _, leaf = path.rpartition(".")
        value = np.asarray(value)
        value = value.transpose(3, 2, 0, 1) if leaf == "kernel" else value
        arrays[f"{layer}.{_LEAVES.get(leaf, leaf)}"] = value
    return arrays


def opened(content, folder):
    """As `read` gives a file with this content."""
    (folder / "a.pth").write_bytes(bytes(2**20))
    return unwrap(content, folder / "a.pth")


def one_value(backbone):
    """The number that all its weights are."""
    arrays = map(np.asarray, parameters(backbone.model).values())
    (only,) = np.unique(np.concatenate([array.ravel() for array in arrays]))
    return only
