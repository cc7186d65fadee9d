"""The runs behind docs/evaluation, and its tables.

    python benchmarks/evaluation.py --assets ASSETS --models MODELS --out OUT   # runs the missing
    python benchmarks/evaluation.py --out OUT --write                           # fills tables in

ASSETS holds the checkpoints and pictures of other projects, MODELS the weights that the examples
trained; docs/evaluation says which and how. Every run is one `fam-jax evaluate`, and is left as
it is when it is there.
"""

import argparse
import csv
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from fam_jax import metrics
from fam_jax.evaluate.tables import with_error

KEY = jax.random.key(0)
DOCUMENTS = Path(__file__).resolve().parents[1] / "docs" / "evaluation"
OMNIGLOT = "--data {assets}/images/omniglot/all_runs.zip"
PROTONET = "{assets}/checkpoints/protonet-conv4"
RELATION = "{assets}/checkpoints/relationnet/miniimagenet_feature_encoder_5way_5shot.pkl"

# network -> what loads it
NETWORKS = {
    "protonet-omniglot": f"--model conv4-omniglot --weights {PROTONET}/omniglot_20way_1shot.pth",
    "protonet-mini": f"--model conv4 --weights {PROTONET}/miniimagenet_5shot.pth",
    "relation-mini": f"--model relationnet --weights {RELATION}",
    "resnet20": "--model cifar-resnet20 "
    "--weights {assets}/checkpoints/cifar-resnet/resnet20-12fca82f.th",
    "resnet56": "--model cifar-resnet56 "
    "--weights {assets}/checkpoints/cifar-resnet/resnet56-4bfd9763.th",
    "tiny": "--model tiny --image-size 64",
    "tiny-moco": "--model tiny --image-size 64 --weights {models}/tiny-moco.safetensors "
    "--head keep",
    "tiny-byol": "--model tiny --image-size 64 --weights {models}/tiny-byol.safetensors "
    "--head keep",
    "tiny-triplet": "--model tiny --image-size 64 --weights {models}/tiny-triplet.safetensors "
    "--head keep",
    "tiny-proxy": "--model tiny --image-size 64 --weights {models}/tiny-proxy.safetensors "
    "--head keep",
    "matching-omniglot": "--model conv4-omniglot-pooled "
    "--weights {models}/conv4-omniglot-matching.safetensors",
    "vit-simclr": "--model vit-mini-patch8 --weights {models}/vit-mini-simclr.safetensors",
    "resnet56-layer2": "--model cifar-resnet56 --layer layer2 "
    "--weights {assets}/checkpoints/cifar-resnet/resnet56-4bfd9763.th",
    "tiny-moco-layer2": "--model tiny --image-size 64 --layer layer2 "
    "--weights {models}/tiny-moco.safetensors --head keep",
    "vit-simclr-blocks.2.norm1": "--model vit-mini-patch8 --layer blocks.2.norm1 "
    "--weights {models}/vit-mini-simclr.safetensors",
}
ATTENTION = "attention-rollout,chefer,le-grad,grad-eclip"
SIX = "activation-sum,fam,fam-contrastive,decomposition,contrastive,contrastive-free"
# run -> task, network, and the task's own options
RUNS = {
    "fewshot protonet-omniglot": "--layer block2 --similarity euclidean --cases 60 " + OMNIGLOT,
    "fewshot matching-omniglot": "--cases 60 " + OMNIGLOT,
    "fewshot protonet-mini": "--similarity euclidean --cases 30",
    "fewshot relation-mini": "--cases 15",
    "contrastive tiny-moco": "--cases 32 --steps 16",
    "contrastive tiny-byol": "--cases 32 --steps 16",
    "contrastive vit-simclr": "--cases 32 --steps 16 --methods main," + ATTENTION,
    "contrastive tiny": "--cases 32 --steps 16",
    "retrieval tiny": "--cases 32 --steps 16",
    "retrieval tiny-triplet": "--cases 32 --steps 16",
    "retrieval tiny-proxy": "--cases 32 --steps 16",
    "retrieval resnet20": "--cases 32 --steps 16",
    "retrieval resnet56": "--cases 32 --steps 16",
    **{f"mosaic {name}": "--cases 200" for name in NETWORKS if "omniglot" not in name},
    "mosaic vit-simclr": "--cases 200 --methods main," + ATTENTION,
    "localization resnet56": "--image-size 64 --steps 16 --data {assets}/images/raccoon",
    "localization protonet-mini": "--data {assets}/images/raccoon",
    "verification tiny": "--cases 32 --steps 16",
    "sanity tiny": "--cases 8 --methods all",
    "sanity tiny-moco": "--cases 16",
    "sanity resnet56": "--cases 16",
    "sanity tiny-byol": "--cases 16 --methods " + SIX,
    "sanity tiny-triplet": "--cases 16 --methods " + SIX,
    "sanity tiny-proxy": "--cases 16 --methods " + SIX,
    "sanity vit-simclr": "--cases 8 --methods quick",
    "stereo tiny": "--image-size 256",
    "stereo resnet56": "--image-size 128 --layer layer2",
    "stereo vit-simclr": "--layer blocks.1",
}
EFFECTS = ("insertion - deletion", "AID", "ROAD at 50 %")
# task -> the measures its table shows
SHOWN = {
    "fewshot": (*EFFECTS, "average drop", "fidelity: drop of log p"),
    "contrastive": (*EFFECTS, "average drop", "complexity"),
    "retrieval": (*EFFECTS, "average drop", "both: insertion - deletion"),
    "verification": (*EFFECTS, "accuracy under deletion", "accuracy under insertion"),
    "mosaic": ("mass inside", "pointing"),
    "localization": ("mass inside", "pointing", "IoU at 0.5", "box hit", "insertion - deletion"),
    "sanity": (
        "swap: Spearman",
        "with sum of A: Spearman",
        "last stage random: Spearman",
        "all random: Spearman",
        "max-sensitivity",
    ),
}


def folder(out: Path, run: str) -> Path:
    return out / run.replace(" ", "-")


def command(run: str) -> str:
    task, network = run.split()
    return f"fam-jax evaluate {task} {NETWORKS[network]} {RUNS[run]}"


def execute(run: str, out: Path, places: dict[str, Path]) -> None:
    if (folder(out, run) / "manifest.json").exists():
        return
    words = [word.format(**places) for word in command(run).split()]
    print(" ".join(words), flush=True)
    code = "from fam_jax.apps.main import main; main()"
    subprocess.run([sys.executable, "-c", code, *words[1:], "-o", folder(out, run)], check=False)


def shown(run: str, out: Path) -> str:
    """The command, what the network itself does, and the run's table."""
    text = (folder(out, run) / "table.md").read_text()
    quality = text.split("\n\n")[1]
    plain = re.sub(r"\{(assets|models)\}", lambda m: m[1].upper(), command(run))
    if run.startswith("stereo"):
        table = text[text.index("| method") :].strip()
        return f"`{plain}`\n\n{quality}\n\n{table}"
    with open(folder(out, run) / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = SHOWN[run.split()[0]]
    by_cell = {(row["method"], row["measure"]): row for row in rows}
    lines = ["| method | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = [number(by_cell[method, name]) for name in names]
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return f"`{plain}`\n\n{quality}\n\n" + "\n".join(lines)


def number(row: dict[str, str]) -> str:
    return with_error(float(row["mean"]), float(row["standard_error"]))


def summary(out: Path, tasks: tuple[str, ...], measure: str) -> str:
    """A row a run: one measure of three methods, and paired differences between them."""
    columns = (
        "activation-sum",
        "fam",
        "fam-contrastive",
        "decomposition",
        "contrastive",
        "contrastive-free",
    )
    pairs = (
        ("fam", "activation-sum"),
        ("contrastive", "fam"),
        ("contrastive", "decomposition"),
        ("contrastive-free", "contrastive"),
    )
    heads = [*columns, *(f"{a} less {b}" for a, b in pairs)]
    lines = ["| network | task | " + " | ".join(heads) + " |", "|---|---|" + "---:|" * len(heads)]
    for run in RUNS:
        task, network = run.split()
        if task in tasks and (folder(out, run) / "manifest.json").exists():
            values = {name: cases(folder(out, run), name, measure) for name in columns}
            means = [f"{values[name].mean():.3f}" for name in columns]
            estimates = [metrics.paired_difference(values[a], values[b], KEY) for a, b in pairs]
            differences = [with_error(float(d.mean), float(d.error), sign="+") for d in estimates]
            lines.append(f"| {network} | {task} | " + " | ".join(means + differences) + " |")
    return "\n".join(lines)


def cases(run: Path, method: str, measure: str) -> np.ndarray:
    with open(run / "methods" / f"{method}.csv", newline="") as file:
        return np.array([row[measure] for row in csv.DictReader(file)], np.float32)


SUMMARIES = {
    "summary of faithfulness": (("fewshot", "contrastive", "retrieval"), "insertion - deletion"),
    "summary of pointing": (("mosaic",), "pointing"),
    "summary of mass": (("mosaic",), "mass inside"),
    "summary of swaps": (("sanity",), "swap: Spearman"),
}


def fill(name: str, block: str) -> None:
    """Replace what stands between the documents' markers of that name, if they have them."""
    markers = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    for page in DOCUMENTS.glob("*.md"):
        page.write_text(markers.sub(lambda m: f"{m[1]}\n{block}\n\n{m[2]}", page.read_text()))


def write(out: Path) -> None:
    """Fill in every table whose run is done."""
    for name, (tasks, measure) in SUMMARIES.items():
        fill(name, summary(out, tasks, measure))
    for run in RUNS:
        if (folder(out, run) / "table.md").exists():
            fill(run, shown(run, out))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--assets", type=Path)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--only", nargs="*", default=[""], help="runs whose names hold one of these"
    )
    parser.add_argument("--write", action="store_true", help="fill in the documents' tables")
    options = parser.parse_args()
    if options.write:
        write(options.out)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    for run in RUNS:
        if any(part in run for part in options.only):
            execute(run, options.out, {"assets": options.assets, "models": options.models})


if __name__ == "__main__":
    main()
