"""Models into `.safetensors` files that load without torch."""

from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex

import numpy as np
from flax import nnx
from safetensors.numpy import save

from pretrained_ports.checkpoints.casting import check_finite
from pretrained_ports.checkpoints.readers import sha256
from pretrained_ports.models.state import parameters
from pretrained_ports.models.vit import VisionTransformer

CONVERTER_VERSION = "1"  # goes up when a table maps an old file to other weights


def write(
    path: str | Path,
    model: nnx.Module,
    metadata: Mapping[str, str],
    text: nnx.Module | None = None,
) -> Path:
    """Write a model's weights as `.safetensors`, with module paths as keys ("native").

    Args:
        path: The file to write.
        model: Any module; all its parameters and batch statistics are written.
        metadata: Goes into the header, strings only: "architecture" at least; see `provenance`.
            Of a vision transformer, whose way it resamples "positions" in is added, and the "grid"
            that they are on.
        text: The text tower beside an image tower; "text." comes before its module paths.

    Returns:
        The path.

    Raises:
        ValueError: The path does not end in `.safetensors`, or no architecture is given.
        CheckpointError: Weights are not finite.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {path.name}")
    if "architecture" not in metadata:
        raise ValueError(f"metadata must name the architecture, got {dict(metadata)}")
    arrays = {key: np.asarray(value) for key, value in parameters(model).items()}
    if text is not None:
        arrays |= {f"text.{key}": np.asarray(value) for key, value in parameters(text).items()}
    check_finite(arrays, str(path))
    if isinstance(model, VisionTransformer):
        rows, columns = model.variant.rows_columns
        metadata = {"positions": model.positions, "grid": f"{rows} {columns}", **metadata}
    header = {"dialect": "native", "converter_version": CONVERTER_VERSION, **metadata}
    content = save(arrays, {key: str(value) for key, value in header.items()})
    # An older file is replaced whole or not at all; a new name, so that no link is written through.
    part = path.with_name(f".{path.name[:100]}.{token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def provenance(architecture: str, source: str | Path) -> dict[str, str]:
    """Metadata for `write`: the architecture, and the file the weights come from with its hash."""
    return {
        "architecture": architecture,
        "source": Path(source).name,
        "source_sha256": sha256(source),
    }
