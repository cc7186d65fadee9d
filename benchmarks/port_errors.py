"""Writes the tables of docs/models.md, docs/ports.md and results/ports.md: models, their errors.

python -m pytest -m parity tests/parity -o junit_family=xunit1 --junitxml=parity.xml
python benchmarks/port_errors.py parity.xml
"""

import argparse
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

from pretrained_ports.catalog import ENTRIES, describe

ROOT = Path(__file__).resolve().parents[1]
MODELS, DOCS = ROOT / "docs" / "models.md", ROOT / "docs" / "ports.md"
RESULTS = ROOT / "benchmarks" / "results" / "ports.md"

# What other ports to JAX ask of themselves, in their own tests.
PEERS = {
    "ResNet": "jax-ml/bonsai: 1e-5 relative, logits, not `layer1` ... `layer4`",
    "ConvNeXt": "jax-ml/bonsai: 2e-5 absolute and relative, logits; 5e-4, single blocks",
    "EfficientNet": "jax-ml/bonsai: 1e-3 absolute, logits",
    "ViT": "jax-ml/bonsai: 5e-2 absolute, logits; 1e-1 with resized positions",
    "DINOv2": "Equimo: 1e-5 mean absolute, class token",
    "SigLIP": "Equimo (SigLIP 2): 1e-5 mean absolute, patch tokens",
    "CLIP": "transformers 4, Flax classes: 1e-4 to 4e-2 absolute",
}


def errors(junits: list[Path]) -> dict[tuple[str, str], dict]:
    """(family, dialect) -> the models compared, and the worst error by type and place."""
    table = defaultdict(lambda: {"models": {}, "float64": {}, "float32": {}})
    items = [item for junit in junits for item in ElementTree.parse(junit).iter("property")]
    for item in items:
        parts = item.get("name").split(" | ")
        if len(parts) != 5 or parts[2] not in ENTRIES:
            continue
        _, dialect, model, dtype, place = parts
        row = table[ENTRIES[model].family, dialect]
        row["models"][model] = None
        worst = row[dtype]
        worst[place] = max(worst.get(place, 0.0), float(item.get("value")))
    return table


def short_table(table: dict[tuple[str, str], dict]) -> str:
    lines = ["| family | dialect | float32 | float64 | other ports |", "|---|---|---|---|---|"]
    lines += [
        f"| {family} | `{dialect}` | {max(row['float32'].values()):.1e} "
        f"| {max(row['float64'].values()):.1e} | {PEERS.get(family, '')} |"
        for (family, dialect), row in sorted(table.items())
    ]
    return "\n".join(lines)


def error_table(table: dict[tuple[str, str], dict]) -> str:
    lines = [
        "| family | dialect | compared on | places | float32 embedding | float32 worst "
        "| float64 worst | other ports to JAX |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (family, dialect), row in sorted(table.items()):
        single, double = row["float32"], row["float64"]
        lines.append(
            f"| {family} | `{dialect}` | {', '.join(row['models'])} | {len(single)} "
            f"| {_shown(single.get('embedding'))} | {max(single.values()):.1e} "
            f"| {max(double.values()):.1e} | {PEERS.get(family, '')} |"
        )
    return "\n".join(lines)


def _shown(error: float | None) -> str:
    return "" if error is None else f"{error:.1e}"


def model_table() -> str:
    lines = [
        "| name | family | parameters | input | layer | licence | weights |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row.name}` | {row.family} | {row.parameters / 1e6:.1f} M | {row.input} "
        f"| `{ENTRIES[row.name].layer}` | {row.licence} | {row.source} |"
        for row in describe.table()
    ]
    return "\n".join(lines)


def insert(text: str, name: str, table: str) -> str:
    """Replace what stands between the comments `name: begin` and `name: end`."""
    pattern = rf"(<!-- {name}: begin.*?-->\n).*?(<!-- {name}: end -->)"
    changed, count = re.subn(pattern, lambda m: f"{m[1]}\n{table}\n\n{m[2]}", text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"there is no place for the {name}")
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("junit", type=Path, nargs="+", help="what pytest --junitxml wrote")
    table = errors(parser.parse_args().junit)
    MODELS.write_text(insert(MODELS.read_text(), "models", model_table()))
    DOCS.write_text(insert(DOCS.read_text(), "errors", error_table(table)))
    RESULTS.write_text(insert(RESULTS.read_text(), "errors", short_table(table)))


if __name__ == "__main__":
    main()
