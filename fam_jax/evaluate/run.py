"""A run: every method on the same cases, a file for each, then tables and figures."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import Progress

from fam_jax._core.brief import legible
from fam_jax.evaluate import figures, tables, tasks
from fam_jax.evaluate.asking import Question, refusal
from fam_jax.evaluate.cases import Cases
from fam_jax.evaluate.measures import Answer, measure
from fam_jax.evaluate.network import Network
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
    measures: Sequence[str] = (),
    overwrite: bool = False,
    say: Callable[[str], None] = print,
    console: Console | None = None,
) -> dict[str, Any]:
    """Run the methods that the folder has not yet, then write tables, figures and manifest.

    A method that has nothing to say of the network or the task is left out; errors in its maps go
    up. `settings` stay in the folder: another run's are refused unless they may be overwritten.
    `measures` are some of the task's, if not all.

    Returns:
        The table of `means`, the names of the `files`, and of the manifest: the methods done, the
        network's own figures, what was left out and which maps are all zeros.
    """
    cases = tasks.build(task, network, options)  # before the folder: bad data leaves none
    measures, threshold = measures or tasks.find(task).measures, cases.figures.get("threshold")
    results = Results(folder, settings, overwrite=overwrite)
    refused: dict[str, list[str]] = {}
    say(f"{settings['model']}, {task}: {_summary(cases)}")

    def answers(method: str) -> Iterator[Answer]:
        for i, batch in enumerate(cases.batches):
            key = jax.random.fold_in(jax.random.key(0), i)
            case = network.encode, network.similarity, batch, key, threshold, options.steps
            yield Answer(method, *case, network)
            progress.advance(bar)

    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(names) * len(cases.batches))
        for i, name in enumerate(names):
            progress.update(bar, description=name, completed=i * len(cases.batches))
            if results.has(name):
                continue
            question = Question.of(cases.batches[0])
            reason = refusal(network.encode, network.similarity, name, question)
            if reason is None:
                results.add(name, *_measured(answers(name), measures))
            else:
                refused.setdefault(reason, []).append(name)
    unsaid = [f"{', '.join(some)}: {reason}" for reason, some in refused.items()]
    left_out = [*cases.left_out, *unsaid]
    done = [name for name in names if results.has(name)]
    if not done:
        raise ValueError(f"no method could be run: {'; '.join(left_out[:_NAMED])}")
    silent = _silent(results, done, len(cases))
    outcome = _write(results, settings, cases, done, left_out, silent)
    for heading, lines in (("left out", left_out), ("no evidence", silent)):
        for line in lines:
            say(f"{heading}: {line}")
    say(legible(folder / "table.md"))
    return outcome


def _measured(
    answers: Iterable[Answer], measures: Sequence[str]
) -> tuple[list[str], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What the folder keeps of a method: the cases' names, numbers by name, and arrays."""
    names, values, curves, maps = [], [], [], []
    for answer in answers:
        n = len(answer.batch)
        along = answer.curves if "faithfulness" in measures else {}
        names += answer.batch.names
        values.append({k: v[:n] for k, v in measure(measures, answer).items()})
        curves.append({k: np.asarray(curve.values)[:n] for k, curve in along.items()})
        maps.append(np.asarray(answer.maps)[:n])
    together = lambda parts: {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}  # noqa: E731
    maps = np.concatenate(maps)
    silent = np.array(names)[~maps.any((1, 2))]
    means = {k: v.mean(0) for k, v in together(curves).items()}
    return names, together(values), {"maps": maps[:_SHOWN], "silent": silent, **means}


def _silent(results: Results, methods: Sequence[str], count: int) -> list[str]:
    """A line for each method on the cases for which it found no evidence, if there are any."""
    lines = []
    for method in methods:
        silent = results.arrays(method)["silent"]
        if len(silent):
            some = ", ".join(map(legible, silent[:_NAMED])) + (
                ", ..." if len(silent) > _NAMED else ""
            )
            lines.append(f"{method}: {len(silent)} of {count} maps are all zeros ({some})")
    return lines


def _write(
    results: Results,
    settings: dict[str, Any],
    cases: Cases,
    done: list[str],
    left_out: list[str],
    silent: list[str],
) -> dict[str, Any]:
    """Tables, figures and the manifest, from the methods' files."""
    folder = results.folder
    values = {name: results.values(name) for name in done}
    arrays = {name: results.arrays(name) for name in done}
    means = tables.means(values)
    parts = [
        f"# {settings['model']}, {settings['task']}",
        f"{_summary(cases)}. Layer {settings['layer']}, gates {settings['gates']}, maps of "
        f"{settings['map'][0]} x {settings['map'][1]}.",
        "Mean ± bootstrap standard error over the cases.",
        tables.markdown(means),
    ]
    if len(done) > 1:
        against = "fam" if "fam" in done else done[0]
        parts += [
            f"Differences from `{against}`, case by case.",
            tables.markdown(tables.differences(values, against)),
        ]
    for heading, lines in (("Left out:", left_out), ("No evidence:", silent)):
        if lines:
            parts += [heading, "\n".join(f"- {line}" for line in lines)]
    files.write_text(folder / "table.md", "\n\n".join(parts) + "\n")
    files.write_text(folder / "table.csv", tables.as_csv(means))
    if "deletion" in arrays[done[0]]:
        files.save_figure(folder / "curves.png", figures.curves(arrays))
    singles = (batch.take([i]) for batch in cases.batches for i in range(len(batch)))
    maps = {name: of_method["maps"] for name, of_method in arrays.items()}
    shown = figures.examples(list(islice(singles, _SHOWN)), maps)
    files.save_figure(folder / "examples.png", shown)
    facts = {"methods": done, "figures": cases.figures, "left_out": left_out, "silent": silent}
    written = files.write_manifest(folder, command="evaluate", **settings, **facts)
    return {**facts, "means": means, "files": written}


def _summary(cases: Cases) -> str:
    own = (
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in cases.figures.items()
    )
    return f"{len(cases)} cases ({cases.about}); the network itself: {', '.join(own)}"
