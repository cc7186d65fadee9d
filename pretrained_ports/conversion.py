"""A checkpoint file into a `.safetensors` file that needs no torch: `fam-jax convert`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pretrained_ports import fitting, zoo
from pretrained_ports.backbone import Backbone
from pretrained_ports.catalog import ENTRIES
from pretrained_ports.catalog.clip_text import TOWERS
from pretrained_ports.checkpoints.dialects import DIALECTS
from pretrained_ports.checkpoints.dialects.rules import TEXT_TOWER
from pretrained_ports.checkpoints.errors import CheckpointError, one_line
from pretrained_ports.checkpoints.parts import choose, search
from pretrained_ports.checkpoints.plans import Plan, plan_of
from pretrained_ports.checkpoints.readers import Checkpoint, read
from pretrained_ports.checkpoints.writing import provenance, write
from pretrained_ports.text.towers import load_text

_SMALLEST = 8  # tensors of a network


def convert_file(
    source: str | Path,
    target: str | Path,
    model: str | None = None,
    dialect: str = "auto",
    overwrite: bool = False,
    head: Literal["drop", "keep"] = "drop",
    positions: str = "auto",
    entry: str | None = None,
    grid: tuple[int, int] | None = None,
) -> Backbone:
    """Read a checkpoint in any dialect and write the model it holds as `.safetensors`.

    Args:
        source: The checkpoint.
        target: The file to write; its header names the architecture, the source and its SHA-256.
        model: One of `names()`; None finds the one that the checkpoint fits.
        dialect: As for `load`.
        overwrite: Whether an existing `target` is replaced.
        head: As for `load`.
        positions: As for `load`; the header says which it was.
        entry: As for `load`.
        grid: As for `load`; the header says which it was.

    Returns:
        The backbone that was written, with the account of every tensor in `.report`.

    Raises:
        ValueError: `target` exists or does not end in `.safetensors`; unknown model or dialect.
        CheckpointError: The source cannot be read, or fits no model, or several.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from safetensors.numpy import save_file
        >>> folder = Path(tempfile.mkdtemp())
        >>> convs = {f"{4 * b}.weight": np.ones((64, 64 if b else 3, 3, 3), "f") for b in range(4)}
        >>> vectors = [f"{4 * b}.bias" for b in range(4)]
        >>> leaves = ("weight", "bias", "running_mean", "running_var")
        >>> vectors += [f"{4 * b + 1}.{leaf}" for b in range(4) for leaf in leaves]
        >>> tensors = convs | {key: np.ones(64, "f") for key in vectors}
        >>> save_file(tensors, folder / "theirs.safetensors")
        >>> convert_file(folder / "theirs.safetensors", folder / "ours.safetensors").name
        'conv4'
    """
    target = Path(target)
    if target.suffix != ".safetensors":
        raise ValueError(f"the file to write must end in .safetensors, got {target}")
    if target.exists() and not overwrite:
        raise ValueError(f"{target} exists; pass --overwrite to replace it")
    if not target.parent.is_dir():
        raise ValueError(f"the folder {target.parent} does not exist")
    checkpoint = read(source)
    name = model or find_model(checkpoint, dialect, entry)
    backbone = zoo.load(
        name,
        checkpoint,
        dialect=dialect,
        head=head,
        positions=positions,
        entry=entry,
        grid=grid,
    )
    assert backbone.report is not None
    metadata = provenance(name, checkpoint.path)
    if backbone.report.entry:
        metadata["source_entry"] = backbone.report.entry
    text = None
    if name in TOWERS and TEXT_TOWER in backbone.report.ignored.values():
        text = load_text(name, checkpoint, entry=entry).model
    write(target, backbone.model, metadata, text)
    return backbone


def find_model(checkpoint: Checkpoint, dialect: str = "auto", entry: str | None = None) -> str:
    """The one model of the zoo that a checkpoint fits.

    Of models that differ in their preprocessing only, the plain name ("resnet50" before
    "resnet50-a1") stands for all.

    Raises:
        ValueError: Unknown dialect.
        CheckpointError: None fits, or models of several names.
    """
    if dialect != "auto" and dialect not in DIALECTS:
        raise ValueError(f"no dialect {dialect!r}; there are: auto, {', '.join(sorted(DIALECTS))}")
    claimed = checkpoint.metadata.get("architecture")
    if claimed in ENTRIES:
        return claimed
    known = set[str]()

    def fitting(part: Checkpoint) -> list[str] | None:
        plans = {
            name: plan
            for name, table in DIALECTS.items()
            if not name.startswith("native") and dialect in ("auto", name)
            if (plan := plan_of(part, table))
        }
        known.update(plans)
        return list(_fitting(part, plans)) or None

    found = search(checkpoint, fitting, _SMALLEST, entry)
    if not known:
        raise CheckpointError(
            f"{checkpoint.path} follows no known dialect; its first keys are: "
            f"{', '.join(map(one_line, list(checkpoint.tensors)[:6]))}"
        )
    if not found:
        raise CheckpointError(
            f"{checkpoint.path} has the keys of {' and '.join(sorted(known))}, but the shapes of "
            "no model of the zoo; name the nearest with --model to see what differs"
        )
    _, names, _ = choose(found, "a network")
    plain = [name for name in names if not any(name.startswith(f"{n}-") for n in names)]
    if len(plain) == 1:
        return plain[0]
    raise CheckpointError(
        f"{checkpoint.path} fits {len(plain)} models alike; say which with --model: "
        f"{', '.join(plain)}"
    )


def _fitting(checkpoint: Checkpoint, plans: Mapping[str, Plan]) -> Iterable[str]:
    """Names of the models whose parameters a part fills; rows of one build only once."""
    verdicts = {}
    for name, row in ENTRIES.items():
        for dialect in plans.keys() & set(row.dialects):
            key = dialect, repr(row.build)
            if key not in verdicts:
                verdicts[key] = fitting.fits(checkpoint, name, plans[dialect])
            if verdicts[key]:
                yield name
                break
