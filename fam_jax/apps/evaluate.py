"""`fam-jax evaluate`: the options as a task, a network and methods, and what came of it."""

from pathlib import Path
from typing import Annotated

import typer

from fam_jax._core.checks import check_choice
from fam_jax.apps import choice, network, options
from fam_jax.apps.output import Output
from fam_jax.io import files


def evaluate(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="fewshot, contrastive, retrieval, verification, mosaic, localization, sanity, or "
            "stereo.",
        ),
    ],
    model: options.Model = None,
    weights: options.Weights = None,
    entry: options.Entry = None,
    grid: options.Grid = None,
    head: options.Head = "drop",
    layer: options.Layer = None,
    gates: options.Gates = None,
    image_size: options.ImageSize = None,
    window: options.Window = None,
    page: options.Page = None,
    data: Annotated[
        str,
        typer.Option(
            help="A folder with a folder per class, or a .zip of one; Omniglot's run folders "
            "(fewshot); a CSV of pairs: first,second,same (verification); pictures with NAME.xml "
            "boxes or NAME_mask.png (localization); or: photographs, those at hand."
        ),
    ] = "photographs",
    methods: Annotated[
        str, typer.Option(help="Names with commas; or all, quick, main, baselines.")
    ] = "main",
    measures: Annotated[
        str | None,
        typer.Option(
            help="Some of the task's, with commas (road is slow on large pictures); a wrong name "
            "lists them."
        ),
    ] = None,
    similarity: options.Similarity = "cosine",
    cases: Annotated[int, typer.Option(help="How many at most.")] = 100,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    way: Annotated[int, typer.Option(help="Classes of an episode.")] = 5,
    shot: Annotated[int, typer.Option(help="Supports of a class.")] = 5,
    neighbours: Annotated[int, typer.Option(help="How many vote in contrastive.")] = 20,
    steps: Annotated[int, typer.Option(help="Of a deletion or insertion.")] = 32,
    output: options.Output = "fam-jax-evaluate",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Measure how well each method's maps explain a network in TASK: tables, curves, examples.

    --similarity decides the task. The same command run again goes on where it was stopped, and
    adds methods to a finished run.
    """
    from fam_jax.evaluate import asking, run, stereo, tasks
    from fam_jax.evaluate.network import Network

    check_choice("TASK", task, (*tasks.TASKS, "stereo"))
    check_choice("--similarity", similarity, options.SIMILARITIES)
    counts = {"cases": cases, "way": way, "shot": shot, "neighbours": neighbours, "steps": steps}
    options.check_counts(**counts, image_size=image_size)
    options.reader(window, page)
    files.refuse(Path(output), overwrite=True)  # an address, before anything is computed
    network.check(head, gates)
    wanted = _measures(task, measures)
    names = asking.named([name.strip() for name in methods.split(",") if name.strip()], "--methods")
    asked = tasks.Options(data, seed=seed, **counts, window=window, page=page)
    net, lines = choice.open_network(
        model, weights, head, layer, gates, image_size, entry=entry, grid=grid
    )
    explained = Network(net.backbone, net.encode, options.SIMILARITIES[similarity])
    facts = {**net.facts(), "map": list(explained.grid()), "similarity": similarity}
    settings = {"task": task, **asked.facts(), **facts}
    if wanted:
        settings["measures"] = wanted
    talk, folder = Output(quiet, as_json), Path(output)
    talk.say(*lines)
    where = {"overwrite": overwrite, "say": talk.say}
    if task == "stereo":
        outcome = stereo.run(explained, folder, settings, **where)
    else:
        case = explained, task, asked, names, settings, folder
        outcome = run.evaluate(*case, **where, measures=wanted, console=talk.progress())
    outcome["means"] = {
        method: {name: entry._asdict() for name, entry in row.items()}
        for method, row in outcome["means"].items()
    }
    outcome["files"] = [str(folder / name) for name in outcome["files"]]
    talk.result(task=task, model=net.backbone.name, notes=lines, layer=net.encode.at, **outcome)


def _measures(task: str, given: str | None) -> list[str]:
    """The names in --measures, each one of the task's; none if it is not given."""
    from fam_jax.evaluate import tasks

    names = [name.strip() for name in (given or "").split(",") if name.strip()]
    if given is None:
        return names
    those = () if task == "stereo" else tasks.find(task).measures
    if not those:
        raise ValueError("--measures: stereo has one measure")
    for name in names or [""]:
        check_choice("--measures", name, those)
    return names
