"""The command line, `fam-jax`: options in, one-line errors out."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

import fam_jax
from fam_jax._core.checks import check_choice
from fam_jax.apps.bulk import bulk
from fam_jax.apps.errors import DEBUG, one_line_errors

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Why does a network find two images alike? Heat-maps for similarities, in JAX.",
    epilog=f"{DEBUG} after any command shows the traceback of an error.",
)


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"fam-jax {fam_jax.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Why does a network find two images alike? Heat-maps for similarities, in JAX."""


@app.command()
@one_line_errors
def explain(
    query: Annotated[Path, typer.Argument(metavar="QUERY", help="The picture to explain.")],
    references: Annotated[
        list[Path] | None,
        typer.Argument(metavar="REFERENCE", help="What it is compared with, unless --text is."),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="A sentence to compare it with (repeat for more), for CLIP."),
    ] = None,
    model: Annotated[str, typer.Option(help="A backbone: tiny, resnet50, conv4, ...")] = "tiny",
    weights: Annotated[
        Path | None, typer.Option(help="A checkpoint file for it, or: random.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Where maps are taken.")] = None,
    method: Annotated[
        str,
        typer.Option(
            help="fam, contrastive (needs a background), decomposition, grad-cam, grad-cam-pp, "
            "xgrad-cam, layer-cam, hires-cam, eigen-cam or activation-sum."
        ),
    ] = "fam",
    similarity: Annotated[str, typer.Option(help="cosine, dot or euclidean.")] = "cosine",
    background: Annotated[
        list[Path] | None,
        typer.Option(
            help="Other pictures (a file or a folder; repeat for more): explain what makes the "
            "pair more alike than these. FAM's weights are then signed, without min-max."
        ),
    ] = None,
    background_text: Annotated[
        list[str] | None, typer.Option(help="The same for --text: other sentences.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="CLIP's tokenizer.json, if it is not to be downloaded.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")] = Path(
        "fam-jax-explain"
    ),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in that folder.")
    ] = False,
) -> None:
    """Explain why QUERY and each REFERENCE, or sentence, are alike: overlays, figures, maps."""
    from fam_jax.apps.explain import run

    run(
        query, references or [], model=model, weights=weights, layer=layer, method=method,
        similarity=similarity, background=background or [], texts=text or [],
        background_texts=background_text or [], tokenizer=tokenizer, folder=output,
        overwrite=overwrite, say=typer.echo,
    )  # fmt: skip


@app.command()
@one_line_errors
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")] = Path(
        "fam-jax-demo"
    ),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in that folder.")
    ] = False,
) -> None:
    """Show what it does on real photographs, without a network: pairs, mosaics, retrieval."""
    from fam_jax.apps.demo import run

    run(output, overwrite=overwrite, say=typer.echo)


@app.command()
@one_line_errors
def evaluate(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="fewshot, contrastive, retrieval, verification, mosaic, localization, sanity, or "
            "stereo.",
        ),
    ],
    model: Annotated[str, typer.Option(help="A backbone: tiny, resnet50, conv4, ...")] = "tiny",
    weights: Annotated[Path | None, typer.Option(help="A checkpoint file for it.")] = None,
    head: Annotated[
        str, typer.Option(help="A projection head in the file: drop or keep.")
    ] = "drop",
    layer: Annotated[str | None, typer.Option(help="Where maps are taken.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Pixels of a picture's side, if not the network's own.")
    ] = None,
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
    similarity: Annotated[
        str, typer.Option(help="What decides the task: cosine, dot or euclidean.")
    ] = "cosine",
    cases: Annotated[int, typer.Option(help="How many at most.")] = 100,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    way: Annotated[int, typer.Option(help="Classes of an episode.")] = 5,
    shot: Annotated[int, typer.Option(help="Supports of a class.")] = 5,
    neighbours: Annotated[int, typer.Option(help="How many vote in contrastive.")] = 20,
    steps: Annotated[int, typer.Option(help="Of a deletion or insertion.")] = 32,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")] = Path(
        "fam-jax-evaluate"
    ),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Forget an earlier run in that folder.")
    ] = False,
) -> None:
    """Measure how well each method's maps explain a network in TASK: tables, curves, examples.

    The same command run again goes on where it was stopped, and adds methods to a finished run.
    """
    from fam_jax.evaluate import run, tasks

    run.run(
        task, tasks.Options(data, cases, seed, way, shot, neighbours, steps), model=model,
        weights=weights, head=head, layer=layer, size=size, similarity=similarity,
        methods=[name.strip() for name in methods.split(",") if name.strip()], folder=output,
        overwrite=overwrite, say=typer.echo,
    )  # fmt: skip


@app.command()
@one_line_errors
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A checkpoint in any dialect.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A .safetensors file to write.")],
    model: Annotated[
        str | None, typer.Option(help="The backbone it holds; found from its shapes if not given.")
    ] = None,
    dialect: Annotated[str, typer.Option(help="The names in it: auto, timm, ...")] = "auto",
    head: Annotated[str, typer.Option(help="A projection head: drop or keep.")] = "drop",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
) -> None:
    """Turn a PyTorch checkpoint into a file that loads without torch; account for every tensor."""
    from pretrained_ports.convert_file import convert_file

    check_choice("--head", head, ("drop", "keep"))
    backbone = convert_file(
        source, target, model, dialect, overwrite, cast(Literal["drop", "keep"], head)
    )
    assert backbone.report is not None
    typer.echo(f"{backbone.report.full()}\nwrote {target} ({backbone.name})")


@app.command()
@one_line_errors
def models(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One model: its layers, and more.")
    ] = None,
) -> None:
    """List the backbones, or show one: its input, weights, layers and the grid of its maps."""
    from fam_jax.apps.models import show

    show(name)


app.add_typer(bulk)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; exits 2 on bad use with one line, never with a traceback."""
    args = [arg for arg in (sys.argv[1:] if args is None else args) if arg != DEBUG]
    try:
        code = app(args or ["--help"], standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("stopped", err=True)
        code = 130
    except Exception as error:
        if DEBUG in sys.argv:
            raise
        typer.echo(_one_line(error), err=True)
        code = getattr(error, "exit_code", 1)
    sys.exit(code or 0)


def _one_line(error: Exception) -> str:
    format_message = getattr(error, "format_message", None)
    if format_message is not None:  # bad use, found by typer itself
        message = " ".join(format_message().split()).rstrip(".")
        return f"error: {message}; see fam-jax --help"
    what = " ".join(str(error).split())[:300]
    return f"internal error: {type(error).__name__}: {what} ({DEBUG} shows where)"
