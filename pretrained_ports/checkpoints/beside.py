"""Linear layers beside a network in its file: the head of one that is saved module by module."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from pretrained_ports.checkpoints.readers import Checkpoint

Layer = Mapping[str, np.ndarray]  # by the path in the file, which ends in "weight" or "bias"


def linear_layers(whole: Checkpoint, part: Checkpoint) -> dict[str, Layer]:
    """What beside a part of a file is one linear layer and nothing else.

    Args:
        whole: The file.
        part: The network in it.

    Returns:
        By the path of the layer: its weight [outputs inputs], and its bias if it has one.

    Examples:
        >>> from pathlib import Path
        >>> conv, head = np.ones((8, 3, 1, 1)), np.ones((2, 8))
        >>> whole = Checkpoint(Path("a.pth"), {"net.conv.weight": conv, "head.weight": head})
        >>> part = Checkpoint(Path("a.pth"), {"conv.weight": conv}, names=("net",))
        >>> list(linear_layers(whole, part))
        ['head']
    """
    way = _names(part)
    own = {".".join((*way, key)) for key in part.tensors}
    groups: dict[tuple[str, ...], dict[str, np.ndarray]] = {}
    for path, tensor in _all_tensors(whole).items():
        if path not in own:
            groups.setdefault(_branch(path, way), {})[path] = tensor
    layers = {}
    for group in groups.values():
        (layer, *more) = {path.rpartition(".")[0] for path in group}
        if layer and not more and _is_linear(group, layer):
            layers[layer] = group
    return layers


def names_of(part: Checkpoint, layer: Layer) -> set[str]:
    """The names under which a layer stands among what was ignored beside a part."""
    names = set()
    for path in layer:
        steps, at = path.split("."), len(_branch(path, _names(part))) - 1
        names |= {
            ".".join(steps[i:j]) for i in range(at + 1) for j in range(at + 1, len(steps) + 1)
        }
    return names


def _names(part: Checkpoint) -> list[str]:
    return ".".join(part.names).split(".") if part.names else []


def _branch(path: str, way: list[str]) -> tuple[str, ...]:
    """The names of a path up to the first that is not on the way to the network."""
    steps = path.split(".")
    common = 0
    while common < min(len(way), len(steps) - 1) and steps[common] == way[common]:
        common += 1
    return tuple(steps[: common + 1])


def _all_tensors(whole: Checkpoint) -> dict[str, np.ndarray]:
    if not whole.dictionaries:
        return dict(whole.tensors)
    return {
        ".".join((*names, key)): tensor
        for names, one in whole.dictionaries.items()
        for key, tensor in one.tensors.items()
    }


def _is_linear(group: Layer, layer: str) -> bool:
    weight, bias = group.get(f"{layer}.weight"), group.get(f"{layer}.bias")
    if weight is None or len(group) > 1 + (bias is not None):
        return False
    shaped = weight.ndim == 2 and weight.size > 0
    shaped = shaped and (bias is None or bias.shape == weight.shape[:1])
    return shaped and all(jnp.issubdtype(array.dtype, jnp.floating) for array in group.values())
