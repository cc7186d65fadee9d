"""The runs behind docs/evaluation.md, and its tables.

    python benchmarks/evaluation.py --assets ASSETS --models MODELS --out OUT   # runs the missing
    python benchmarks/evaluation.py --out OUT --write                           # fills tables in

ASSETS holds the checkpoints and pictures of other projects, MODELS the weights that the examples
trained; docs/evaluation-networks.md says which and how. A run is one `fam-jax evaluate`, and left
as it is when it is there. A row of a table stays as it stands when its run is not there.
"""

import argparse
import csv
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from fam_jax import metrics
from fam_jax.evaluate.tables import with_error

KEY = jax.random.key(0)
DOCUMENTS = Path(__file__).resolve().parents[1] / "docs"
OMNIGLOT = "--data {assets}/images/omniglot/all_runs.zip"
PROTONET = "{assets}/checkpoints/protonet-conv4"
RELATION = "{assets}/checkpoints/relationnet/miniimagenet_feature_encoder_5way_5shot.pkl"
STRONG = "efficientnet-lite0"
TRANSFORMERS = "vit-simclr", "dinov2-small"
CIFAR = "{assets}/checkpoints/cifar-resnet"
RESNET = f"--model cifar-resnet56 --weights {CIFAR}/resnet56-4bfd9763.th"
TINY = "--model tiny --image-size 64"
VIT = "--model vit-mini-patch8 --weights {models}/vit-mini-simclr.safetensors"
# network -> what loads it
NETWORKS = {
    STRONG: "--model efficientnet-lite0",
    "protonet-omniglot": f"--model conv4-omniglot --weights {PROTONET}/omniglot_20way_1shot.pth",
    "protonet-mini": f"--model conv4 --weights {PROTONET}/miniimagenet_5shot.pth",
    "relation-mini": f"--model relationnet --weights {RELATION}",
    "resnet20": f"--model cifar-resnet20 --weights {CIFAR}/resnet20-12fca82f.th",
    "resnet56": RESNET,
    "tiny": TINY,
    **{
        f"tiny-{loss}": f"{TINY} --weights {{models}}/tiny-{loss}.safetensors --head keep"
        for loss in ("moco", "byol", "triplet", "proxy")
    },
    "matching-omniglot": "--model conv4-omniglot-pooled "
    "--weights {models}/conv4-omniglot-matching.safetensors",
    "vit-simclr": VIT,
    "dinov2-small": "--model dinov2-small --image-size 224 "
    "--weights {assets}/checkpoints/dinov2-small/model.safetensors",
    "resnet56-layer2": f"{RESNET} --layer layer2",
    "tiny-moco-layer2": f"{TINY} --layer layer2 "
    "--weights {models}/tiny-moco.safetensors --head keep",
    "vit-simclr-blocks.2.norm1": f"{VIT} --layer blocks.2.norm1",
}
SIX = "activation-sum,fam,fam-contrastive,decomposition,contrastive,contrastive-free"
ATTENTION = "attention-rollout,chefer,le-grad,grad-eclip"
PASSES = "random,fam,contrastive,occlusion,rise,corr-rise,score-cam,lots,fggb"
OF_PAIRS = "random,fam,contrastive,interaction-cam,point-to-point,nmf-concepts,integrated-pair"
# task and network -> the task's own options; a third word marks a run that has a table of its own
RUNS = {
    f"retrieval {STRONG}": "--cases 64 --steps 8 --measures faithfulness --methods quick",
    **{
        f"retrieval {name}": "--cases 32 --steps 16"
        for name in ("tiny", "tiny-triplet", "tiny-proxy", "resnet20", "resnet56")
    },
    "fewshot protonet-omniglot": "--layer block2 --similarity euclidean --cases 60 " + OMNIGLOT,
    "fewshot matching-omniglot": "--cases 60 " + OMNIGLOT,
    "fewshot protonet-mini": "--similarity euclidean --cases 30",
    "fewshot relation-mini": "--cases 15",
    "contrastive tiny-moco": "--cases 32 --steps 16",
    "contrastive tiny-byol": "--cases 32 --steps 16",
    "contrastive vit-simclr": "--cases 32 --steps 16 --methods main," + ATTENTION,
    "contrastive dinov2-small": "--cases 32 --steps 8 --measures faithfulness --methods main,"
    + ATTENTION,
    "contrastive tiny": "--cases 32 --steps 16",
    **{f"mosaic {name}": "--cases 200" for name in NETWORKS if "omniglot" not in name},
    **{f"mosaic {name}": "--cases 200 --methods quick" for name in (STRONG, "vit-simclr")},
    "mosaic dinov2-small": "--cases 64 --methods quick",
    f"mosaic {STRONG} of-pairs": f"--cases 40 --methods {OF_PAIRS}",
    f"localization {STRONG}": "--cases 40 --measures place,region "
    "--data {assets}/images/raccoon --methods quick",
    f"localization {STRONG} many-passes": "--cases 40 --measures place,region "
    f"--data {{assets}}/images/raccoon --methods {PASSES}",
    "localization resnet56": "--image-size 64 --steps 16 --data {assets}/images/raccoon",
    "localization protonet-mini": "--data {assets}/images/raccoon",
    "verification tiny": "--cases 32 --steps 16",
    f"sanity {STRONG}": "--cases 16 --methods quick",
    "sanity tiny": "--cases 8 --methods all",
    "sanity tiny-moco": "--cases 16",
    "sanity resnet56": "--cases 16",
    **{
        f"sanity tiny-{loss}": f"--cases 16 --methods {SIX}"
        for loss in ("byol", "triplet", "proxy")
    },
    **{f"sanity {name}": "--cases 8 --methods quick" for name in TRANSFORMERS},
    "stereo tiny": "--image-size 256",
    "stereo resnet56": "--image-size 128 --layer layer2",
    "stereo vit-simclr": "--layer blocks.1",
}
SHUFFLED = ("last stage random: Spearman", "all random: Spearman")
EFFECTS = ("insertion - deletion", "AID", "ROAD at 50 %")
# task -> the measures that a table of every method shows
SHOWN = {
    "retrieval": (*EFFECTS, "average drop", "both: insertion - deletion"),
    "mosaic": ("mass inside", "pointing"),
    "localization": ("mass inside", "pointing", "IoU at 0.5", "box hit", "insertion - deletion"),
    "sanity": ("swap: Spearman", "with sum of A: Spearman", *SHUFFLED, "max-sensitivity"),
}
# Runs whose methods have a table of their own.
FULL = [*(run for run in RUNS if STRONG in run), *(f"mosaic {name}" for name in TRANSFORMERS)]
SEVEN = (*SIX.split(","), "grad-cam")
PAIRS = (
    "contrastive less fam",
    "contrastive less decomposition",
    "contrastive-free less contrastive",
)
POINTS = (
    "anywhere",
    "same place",
    "nearest activation",
    "point-to-point",
    "point-to-point, centred",
)


class Question(NamedTuple):
    """A table of means: a row for each network, task and measure, a column for each method.

    Where there are pairs, their differences have the standard errors, else the means have.
    """

    tasks: tuple[str, ...]
    measures: tuple[str, ...]
    columns: tuple[str, ...]
    other: str = ""  # heading of the largest mean among the methods that have no column
    pairs: tuple[str, ...] = ()

    @property
    def heads(self) -> list[str]:
        """Of all columns."""
        several = {"task": self.tasks, "measure": self.measures}
        first = ["network", *(name for name, values in several.items() if len(values) > 1)]
        return [*first, *self.columns, *filter(None, [self.other]), *self.pairs]

    def key(self, run: str, measure: str) -> tuple[str, ...]:
        """The cells that its row begins with."""
        task, network, *_ = run.split()
        more = [(self.tasks, task), (self.measures, measure)]
        return (network, *(value for values, value in more if len(values) > 1))

    def asked(self) -> list[tuple[str, str]]:
        """Run and measure of each row."""
        runs = [run for run in RUNS if run.split()[0] in self.tasks and len(run.split()) == 2]
        return [(run, measure) for run in runs for measure in self.measures]


WITH_RANDOM = ("random", *SEVEN)
ALONE = ("fewshot", "contrastive", "retrieval")
BOXES = ("mass inside", "pointing", "IoU at 0.5", "insertion - deletion")
PAIRED = ("insertion - deletion", "accuracy under deletion", "accuracy under insertion")
QUESTIONS = {
    "faithfulness": Question(ALONE, EFFECTS[:1], WITH_RANDOM, "best other", PAIRS),
    "pointing": Question(("mosaic",), ("pointing",), SEVEN, "best other", PAIRS),
    "mass": Question(("mosaic",), ("mass inside",), SEVEN, "best other", PAIRS),
    "boxes": Question(("localization",), BOXES, WITH_RANDOM, "best other"),
    "verification": Question(("verification",), PAIRED, WITH_RANDOM),
    "decisions": Question(("fewshot",), ("fidelity: drop of log p",), WITH_RANDOM, "best other"),
    "swapped references": Question(("sanity",), ("swap: Spearman",), SEVEN),
    "shuffled parameters": Question(("sanity",), SHUFFLED, SEVEN, "largest other"),
    "stereo": Question(("stereo",), ("error in the row",), POINTS),
}


def folder(out: Path, run: str) -> Path:
    return out / run.replace(" ", "-")


def command(run: str) -> str:
    task, network, *_ = run.split()
    return f"fam-jax evaluate {task} {NETWORKS[network]} {RUNS[run]}"


def execute(run: str, out: Path, places: dict[str, Path]) -> None:
    if (folder(out, run) / "manifest.json").exists():
        return
    words = [word.format(**places) for word in command(run).split()]
    print(" ".join(words), flush=True)
    code = "from fam_jax.apps.main import main; main()"
    subprocess.run([sys.executable, "-c", code, *words[1:], "-o", folder(out, run)], check=False)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def measured(run: Path) -> dict[str, dict[str, str]]:
    """Method -> measure -> mean and error, as the run's first table has them."""
    lines = (run / "table.md").read_text().split("\n\n")[3].splitlines()
    names = cells(lines[0])[1:]
    rows = [cells(line) for line in lines[2:]]
    return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}


def difference(run: Path, pair: str, measure: str) -> str:
    """Of the two methods of "a less b", with its standard error."""
    files = [run / "methods" / f"{name}.csv" for name in pair.split(" less ")]
    rows = [csv.DictReader(file.read_text().splitlines()) for file in files]
    a, b = np.array([[row[measure] for row in each] for each in rows], np.float32)
    found = metrics.paired_difference(a, b, KEY)
    return with_error(float(found.mean), float(found.error), sign="+")


def row(question: Question, measure: str, run: Path) -> list[str]:
    """What follows the key in a question's row; nothing of what was not measured."""
    means = {name: values[measure] for name, values in measured(run).items() if measure in values}
    if not means:
        return []
    shown = [means.get(name, "-") for name in question.columns]
    if question.pairs:
        shown = [mean.split(" ± ")[0] for mean in shown]
    if question.other:
        ours = (*question.columns, "random", "centre")
        others = [name for name in means if name not in ours]
        best = max(others, key=lambda name: float(means[name].split()[0]), default=None)
        shown.append(f"`{best}` {means[best]}" if best else "-")
    return shown + [difference(run, pair, measure) for pair in question.pairs]


def standing(name: str) -> list[str]:
    """The lines of the table that stands between the markers of that name."""
    pages = "".join(page.read_text() for page in DOCUMENTS.glob("evaluation*.md"))
    found = re.search(rf"<!-- {re.escape(name)} -->\n(.*?)<!-- end -->", pages, re.DOTALL)
    return found[1].split("\n")[1:-2] if found else []


def fill(name: str, block: str) -> None:
    """Replace what stands between the documents' markers of that name, if they have them."""
    markers = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    for page in DOCUMENTS.glob("evaluation*.md"):
        page.write_text(markers.sub(lambda m: f"{m[1]}\n{block}\n\n{m[2]}", page.read_text()))


def put(
    name: str,
    heads: Sequence[str],
    rows: Mapping[tuple[str, ...], Iterable[str]],
    order: Iterable[tuple[str, ...]],
    align: str = "---:|",
) -> None:
    """Write these rows, by the cells they begin with; of the others keep what stands there."""
    order = list(dict.fromkeys(order))
    first = len(order[0])
    old = standing(name)
    kept = {tuple(cells(line)[:first]): line for line in old[2:]}
    lines = {key: f"| {' | '.join([*key, *values])} |" for key, values in rows.items()}
    head = f"| {' | '.join(heads)} |"
    stale = [key for key in order if key in kept and key not in lines and old[0] != head]
    if stale:
        raise SystemExit(f"{name}: other columns, and no run for the rows {stale}")
    body = [lines.get(key, kept.get(key)) for key in order]
    under = "|" + "---|" * first + align * (len(heads) - first)
    fill(name, "\n".join([head, under, *filter(None, body)]))


def write(out: Path) -> None:
    """Fill in the rows of every run that is done, and the strong network's whole tables."""
    done = {run: folder(out, run) for run in RUNS if (folder(out, run) / "table.md").exists()}
    for name, question in QUESTIONS.items():
        asked = {question.key(*each): each for each in question.asked()}
        found = {k: row(question, m, done[run]) for k, (run, m) in asked.items() if run in done}
        put(name, question.heads, {key: some for key, some in found.items() if some}, asked)
    for run in FULL:
        if run in done:
            means = {f"`{name}`": values for name, values in measured(done[run]).items()}
            names = [n for n in SHOWN[run.split()[0]] if all(n in v for v in means.values())]
            rows = {(name,): [values[n] for n in names] for name, values in means.items()}
            put(run, ["method", *names], rows, rows)
    quality = {run: (at / "table.md").read_text().split("\n\n")[1] for run, at in done.items()}
    old = {cells(line)[0]: cells(line)[1] for line in standing("runs")[2:]}
    plain = {run: command(run).format(assets="ASSETS", models="MODELS") for run in RUNS}
    rows = {(run,): [quality.get(run, old.get(run, "")), f"`{plain[run]}`"] for run in RUNS}
    put("runs", ["run", "cases, the network itself, layer", "command"], rows, rows, "---|")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--assets", type=Path)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--only", nargs="*", default=[""], help="runs with one of these in the name"
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
