"""The models by name, a file of rows for each group of families, and how to add one's own."""

import difflib

from pretrained_ports.catalog import (
    convnext,
    efficientnet,
    face,
    few_shot,
    mobilenetv3,
    resnet,
    vit,
)
from pretrained_ports.catalog.entry import Entry
from pretrained_ports.checkpoints.dialects import DIALECTS

ENTRIES: dict[str, Entry] = (
    resnet.ENTRIES
    | efficientnet.ENTRIES
    | mobilenetv3.ENTRIES
    | convnext.ENTRIES
    | few_shot.ENTRIES
    | face.ENTRIES
    | vit.ENTRIES
)


def find_entry(name: str) -> Entry:
    """The row of a model; ValueError with the nearest right names."""
    if name not in ENTRIES:
        near = difflib.get_close_matches(name, ENTRIES, n=3, cutoff=0.5)
        nearest = f"the nearest names are: {', '.join(near)}" if near else "none is near"
        raise ValueError(f"no model {name!r}; {nearest} (`fam-jax models` lists all)")
    return ENTRIES[name]


def register(name: str, entry: Entry) -> None:
    """Add a network of your own: `load`, `create`, `names` and every command know it from then on.

    It holds for the running process. `write` makes a file of its weights in the dialect "native",
    which `load(name, weights=file)` reads. Layers "head.0", "head.1", ... are taken for those of a
    projection head, which `load` leaves out unless it is told to keep them.

    Args:
        name: What to call it.
        entry: How to build it, which layer to explain, how to prepare pictures.

    Raises:
        TypeError: `name` is no string, or `entry` no `Entry`.
        ValueError: The name is taken by another entry, or a dialect is unknown.

    Examples:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> import pretrained_ports
        >>> class Edges(pretrained_ports.Network):
        ...     def __init__(self, *, rngs, param_dtype=jnp.float32):
        ...         self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs, param_dtype=param_dtype)
        ...
        ...     def __call__(self, images):
        ...         return nnx.relu(self.conv(images)).mean((1, 2))
        >>> entry = pretrained_ports.Entry(
        ...     family="my own",
        ...     build=Edges,
        ...     layer="conv",
        ...     preprocess=pretrained_ports.Preprocess(size=(32, 32), resize=32),
        ... )
        >>> pretrained_ports.register("edges", entry)
        >>> pretrained_ports.create("edges").embedding_dim
        8
        >>> _ = ENTRIES.pop("edges")  # forgets it
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected a string, got {name!r}")
    if not isinstance(entry, Entry):
        raise TypeError(f"entry of {name!r}: expected an Entry, got {type(entry).__name__}")
    if ENTRIES.get(name, entry) != entry:
        raise ValueError(f"there is a model {name!r} already; register yours under another name")
    if unknown := [dialect for dialect in entry.dialects if dialect not in DIALECTS]:
        raise ValueError(
            f"entry of {name!r}: no dialect {unknown[0]!r}; there are: {', '.join(DIALECTS)}"
        )
    ENTRIES[name] = entry
