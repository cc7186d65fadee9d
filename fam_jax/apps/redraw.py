"""`fam-jax redraw`: the figures of an explained pair again, in other colours."""

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from fam_jax._core.brief import legible
from fam_jax._core.checks import check_choice
from fam_jax.apps import options
from fam_jax.apps.output import Output
from fam_jax.io import files
from fam_jax.io.arrays import load
from fam_jax.io.pictures import Reader

MAPS = "maps.npz"
_KEPT = ("query", "references", "query_boxes", "scores", "figures")


def redraw(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="From fam-jax explain.")],
    colormap: Annotated[
        str | None, typer.Option(help="A colour map of matplotlib, such as viridis.")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="How much of the picture the highest value covers, 0 to 1.")
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(help="Of the colours: each map's own (each), or one for all maps (shared)."),
    ] = None,
    output: options.Output = "fam-jax-redraw",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Make the figures of a folder of fam-jax explain again, from its maps and the pictures.

    What is not given is as it was. The pictures are looked for where they were, and in or beside
    FOLDER.
    """
    talk, target = Output(quiet, as_json), Path(output)
    about, arrays = _read(folder)
    asked = {"colormap": colormap, "alpha": alpha, "scale": scale}
    about["figures"] |= {name: value for name, value in asked.items() if value is not None}
    with files.folder(target, overwrite=overwrite) as stage:
        from matplotlib import colormaps

        from fam_jax.apps import drawing

        check_choice("--colormap", about["figures"]["colormap"], colormaps)
        check_choice("--scale", about["figures"]["scale"], drawing.SCALES)
        if not 0 <= about["figures"]["alpha"] <= 1:
            raise ValueError(f"--alpha: expected a number from 0 to 1, got {alpha}")
        of = [about["query"], *about["references"]]
        paths = [files.found_again(file, folder) for file in of]
        drawing.draw(stage, about, arrays, [*map(Reader.of(about), paths)])
        for file, path in zip(of, paths, strict=True):
            file |= files.traceable_facts(path, target)
        shutil.copy(folder / MAPS, stage / MAPS)
        about["figures"]["versions"] = files.versions()
        written = files.write_manifest(stage, **about)
    listed = [str(target / name) for name in written]
    talk.say(*map(legible, listed))
    talk.result(files=listed)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Manifest and maps of a folder of `fam-jax explain`."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {legible(folder)}")
    try:
        about = json.loads((folder / files.MANIFEST).read_text())
        arrays = load(folder / MAPS)
        whole = about["command"] == "explain" and all(name in about for name in _KEPT)
        whole = whole and len(about["query_boxes"]) == len(arrays["query_maps"])
        words = about.get("words")  # of sentences; older folders have none
        if words is not None:
            whole = whole and len(words) == len(arrays["query_maps"])
            whole = whole and all({"words", "apart", "score"} <= one.keys() for one in words)
            whole = whole and all(
                {"word", "share"} <= of.keys() for s in words for of in s["words"]
            )
    except FileNotFoundError as error:
        name = Path(error.filename).name
        raise FileNotFoundError(
            f"{legible(folder)} is not from fam-jax explain: no {name} in it"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise ValueError(
            f"{legible(folder)}: {files.MANIFEST} and {MAPS} are not, or not as fam-jax explain "
            "wrote them"
        )
    del about["files"]
    return about, arrays
