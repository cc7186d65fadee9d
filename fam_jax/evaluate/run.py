"""A run: every method on the same cases, a file for each, then tables and figures."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import Progress

from fam_jax.evaluate import asking, figures, tables, tasks
from fam_jax.evaluate.cases import Batch, Cases
from fam_jax.evaluate.measures import Answer, measure
from fam_jax.evaluate.network import Network
from fam_jax.evaluate.randomise import randomisation
from fam_jax.evaluate.results import Results
from fam_jax.io import files

_SHOWN = 4  # cases in the figure
_NAMED = 3  # cases named in a line


def evaluate(
    network: Network,
    task: str,
    options: tasks.Options,
    names: Sequence[str],
    settings: dict[str, Any],
    folder: Path,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
    console: Console | None = None,
) -> None:
    """Run the methods that the folder has not yet, then write tables, figures and manifest.

    Args:
        network: what is explained.
        task: one of `tasks.names()`.
        options: how its cases are drawn.
        names: of methods, in the order of the tables; see `methods.names`.
        settings: what tells this run from another; kept in the folder.
        folder: where to.
        overwrite: forget what the folder holds of another run.
        say: takes the lines for the user.
        console: where the progress is shown; stdout if not given.
    """
    cases = tasks.build(task, network, options)  # before the folder: bad data leaves none
    results = Results(folder, settings, overwrite=overwrite)
    left_out = list(cases.left_out)
    say(f"{settings['model']}, {task}: {_summary(cases)}")
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(names) * len(cases.batches))
        advance = partial(progress.advance, bar)
        for name in names:
            progress.update(bar, description=name)
            if results.has(name):
                advance(len(cases.batches))
                continue
            try:
                _one(name, task, network, cases, options, results, advance)
            except (TypeError, ValueError) as error:
                left_out.append(f"{name}: {' '.join(str(error).split())}")
    done = [name for name in names if results.has(name)]
    if not done:
        raise ValueError(f"no method could be run: {'; '.join(left_out[:_NAMED])}")
    silent = [line for name in done for line in _silence(name, results, len(cases))]
    _write(results, settings, cases, done, left_out, silent)
    for heading, lines in (("left out", left_out), ("no evidence", silent)):
        for line in lines:
            say(f"{heading}: {line}")
    say(str(folder / "table.md"))


def _one(
    name: str,
    task: str,
    network: Network,
    cases: Cases,
    options: tasks.Options,
    results: Results,
    advance: Callable[[], None],
) -> None:
    """Run one method on all cases and keep its numbers."""
    explain = asking.explainer(network, name)
    values, curves, shown, silent = [], [], [], []
    for i, batch in enumerate(cases.batches):
        n = len(batch)
        question = asking.Question(
            batch.images,
            batch.references,
            batch.background,
            jax.random.fold_in(jax.random.key(0), i),
            batch.others,
        )
        maps = explain(question)
        answer = Answer(
            network.encode,
            batch,
            explain,
            question,
            maps,
            cases.figures.get("threshold"),
            options.steps,
        )
        found = measure(tasks.find(task).measures, answer)
        extra = {}
        if task == "sanity":
            extra = randomisation(network, name, batch, question, maps)
        values.append({k: v[:n] for k, v in (found.values | extra).items()})
        curves.append({k: v[:n] for k, v in found.curves.items()})
        maps = np.asarray(maps)[:n]
        silent += [batch.names[j] for j in range(n) if not maps[j].any()]
        shown.append(maps)
        advance()
    together = lambda parts: {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}  # noqa: E731
    arrays = {"maps": np.concatenate(shown)[:_SHOWN]}
    arrays |= {k: v.mean(0) for k, v in together(curves).items()}
    arrays["silent"] = np.array(silent, dtype=str)
    results.add(name, [n for batch in cases.batches for n in batch.names], together(values), arrays)


def _silence(method: str, results: Results, count: int) -> list[str]:
    """A line on the cases for which a method found no evidence, if there are any."""
    silent = results.arrays(method)["silent"]
    if not len(silent):
        return []
    some = ", ".join(silent[:_NAMED]) + (", ..." if len(silent) > _NAMED else "")
    return [f"{method}: {len(silent)} of {count} maps are all zeros ({some})"]


def _write(
    results: Results,
    settings: dict[str, Any],
    cases: Cases,
    done: list[str],
    left_out: list[str],
    silent: list[str],
) -> None:
    """Tables, figures and the manifest, from the methods' files."""
    values = {name: results.values(name) for name in done}
    arrays = {name: results.arrays(name) for name in done}
    against = "fam" if "fam" in done else done[0]
    means = tables.means(values)
    parts = [
        f"# {settings['model']}, {settings['task']}",
        f"{_summary(cases)}. Layer {settings['layer']}, maps of "
        f"{settings['map'][0]} x {settings['map'][1]}.",
        "Mean ± bootstrap standard error over the cases.",
        tables.markdown(means),
    ]
    if len(done) > 1:
        parts += [
            f"Differences from `{against}`, case by case.",
            tables.markdown(tables.differences(values, against)),
        ]
    for heading, lines in (("Left out:", left_out), ("No evidence:", silent)):
        if lines:
            parts += [heading, "\n".join(f"- {line}" for line in lines)]
    files.write_text(results.folder / "table.md", "\n\n".join(parts) + "\n")
    files.write_text(results.folder / "table.csv", tables.as_csv(means))
    if "deletion" in next(iter(arrays.values())):
        files.save_figure(results.folder / "curves.png", figures.curves(arrays))
    first = _first(cases, _SHOWN)
    shown = figures.examples(first, {name: a["maps"] for name, a in arrays.items()})
    files.save_figure(results.folder / "examples.png", shown)
    files.write_manifest(
        results.folder,
        command="evaluate",
        **settings,
        methods=done,
        figures=cases.figures,
        left_out=left_out,
        silent=silent,
    )


def _first(cases: Cases, count: int) -> list[Batch]:
    """The first cases, each by itself."""
    singles = (batch.take([i]) for batch in cases.batches for i in range(len(batch)))
    return [single for single, _ in zip(singles, range(count), strict=False)]


def _summary(cases: Cases) -> str:
    own = (
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in cases.figures.items()
    )
    return f"{len(cases)} cases ({cases.about}); the network itself: {', '.join(own)}"
