"""A run's folder: settings first, then a file per method, so that a run can be taken up again.

run.json           what was asked; another question needs another folder
methods/NAME.csv   every case's numbers
methods/NAME.npz   the maps of the cases in the figure, and the mean curves
table.md, table.csv, curves.png, examples.png, manifest.json
"""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fam_jax._core.brief import legible
from fam_jax.io import files
from fam_jax.io.arrays import load

_METHODS = "methods"
_OWN = ("run.json", "table.md", "table.csv", "curves.png", "examples.png", "manifest.json")


class Results:
    """The files of one run; those of another, with other `settings`, are a FileExistsError."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False):
        self.folder = folder
        asked = folder / "run.json"
        begun = folder.is_dir() and [*folder.iterdir()] == files.parts(folder, [asked.name])
        files.refuse(folder, overwrite=overwrite or asked.exists() or begun)
        settings = json.loads(json.dumps(settings))
        if overwrite:
            for stale in (*folder.glob(f"{_METHODS}/*.csv"), *folder.glob(f"{_METHODS}/*.npz")):
                stale.unlink()
        elif asked.exists():
            before = _read(asked, _settings)
            other = [k for k in {**before, **settings} if _differs(before.get(k), settings.get(k))]
            if other:
                raise FileExistsError(
                    f"{legible(folder)} holds a run that differs in: {', '.join(other)}; pass "
                    "--overwrite or another folder"
                )
        folder.mkdir(parents=True, exist_ok=True)
        files.write_text(asked, json.dumps(settings, indent=2) + "\n")
        (folder / _METHODS).mkdir(exist_ok=True)
        for part in (*files.parts(folder, _OWN), *files.parts(folder / _METHODS)):  # a kill's
            part.unlink()

    def has(self, method: str) -> bool:
        """Whether a method is done: what is damaged is measured again."""
        try:
            return bool(self.values(method)) and bool(self.arrays(method))
        except (OSError, ValueError):
            return False

    def add(
        self,
        method: str,
        names: list[str],
        values: Mapping[str, np.ndarray],
        arrays: Mapping[str, np.ndarray],
    ) -> None:
        """Keep a method's numbers [n] by name, and its arrays; whole or not at all."""
        files.save_arrays(self._file(method, "npz"), arrays)
        with files.whole(self._file(method, "csv")) as path, open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["case", *values])
            for i, name in enumerate(names):
                writer.writerow([name, *(f"{column[i]:.6g}" for column in values.values())])

    def values(self, method: str) -> dict[str, np.ndarray]:
        """A method's numbers by name; ValueError if its file is damaged."""
        return _read(self._file(method, "csv"), _columns)

    def arrays(self, method: str) -> dict[str, np.ndarray]:
        """A method's arrays by name; ValueError if its file is damaged."""
        return _read(self._file(method, "npz"), load)

    def _file(self, method: str, suffix: str) -> Path:
        return self.folder / _METHODS / f"{method}.{suffix}"


def _read(path: Path, reader: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """What a file of a run holds; one line if it is damaged, by whom or whatever."""
    try:
        return reader(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {legible(path)}") from None
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        raise ValueError(
            f"{legible(path)} is damaged: remove it, or take another folder, and run the command "
            "again"
        ) from None


def _settings(path: Path) -> dict[str, Any]:
    return {**json.loads(path.read_text())}


def _columns(path: Path) -> dict[str, np.ndarray]:
    with open(path, newline="") as file:
        (first, *names), *rows = list(csv.reader(file))
    if first != "case" or not (names and rows):
        raise ValueError
    columns = np.array([row[1:] for row in rows], np.float32).T
    return dict(zip(names, columns, strict=True))


def _differs(before: Any, now: Any) -> bool:
    """A file is the same wherever it lies."""
    if isinstance(before, dict) and isinstance(now, dict):
        return before.get("sha256") != now.get("sha256")
    return before != now
