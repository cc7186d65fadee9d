"""Pictures to evaluate on: folders of classes, Omniglot's runs, pairs files, photographs at hand.

What cannot be used is left out and named in one line each; the rest goes on.
"""

import csv
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from PIL import Image

from fam_jax.io import photographs, pictures

PHOTOGRAPHS = "photographs"  # in place of a path: those in scikit-image and scikit-learn
_CROPS = 16  # of each held-out quarter of a photograph
_COLUMNS = ("first", "second", "same")
_SAME = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class Picture(NamedTuple):
    """A picture with its class."""

    name: str
    label: str
    image: Image.Image


class Classes(NamedTuple):
    """Pictures of several classes; no picture is on both sides.

    Attributes:
        queries: pictures to explain.
        gallery: pictures they are compared with.
        left_out: a line for whatever could not be used.
    """

    queries: list[Picture]
    gallery: list[Picture]
    left_out: list[str]


class Episode(NamedTuple):
    """A few-shot task: supports of every class, and queries."""

    support: list[Picture]
    queries: list[Picture]


class Pair(NamedTuple):
    """Two pictures, and whether they show the same."""

    first: Picture
    second: Picture
    same: bool


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The folder, or what a .zip file unpacks to while the block runs."""
    if not path.exists():
        raise FileNotFoundError(f"--data: no such file or folder: {path}")
    if path.suffix.lower() != ".zip":
        yield path
        return
    with TemporaryDirectory(prefix="fam-jax-") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
        except zipfile.BadZipFile:
            raise ValueError(f"--data: {path} is not a zip file, or damaged") from None
        yield Path(folder)


def classes(data: str, rng: np.random.Generator) -> Classes:
    """A class per folder (nested folders by their whole path), or the photographs at hand.

    Half of every class asks, the other half is the gallery; drawn by `rng`. Of the photographs,
    the held-out quarters: crops of one ask, crops of the other are the gallery.

    Raises:
        ValueError: if fewer than two classes with two pictures each are left.
        FileNotFoundError: if there is no such folder.
    """
    if data == PHOTOGRAPHS:
        return _crops(rng)
    with opened(Path(data)) as root:
        files, left_out = _files_by_class(root, data)
        queries, gallery = [], []
        for label, paths in files.items():
            found = _read_all(paths, label, left_out)
            if len(found) < 2:
                left_out.append(f"class {label}: {len(found)} picture; at least 2 are needed")
                continue
            order = rng.permutation(len(found))
            half = (len(found) + 1) // 2
            gallery += [found[i] for i in order[:half]]
            queries += [found[i] for i in order[half:]]
    if len({picture.label for picture in queries}) < 2:
        why = f" ({'; '.join(left_out[:3])})" if left_out else ""
        raise ValueError(
            f"--data: {data} has fewer than two classes of two pictures or more; a folder per "
            f"class is expected{why}"
        )
    return Classes(queries, gallery, left_out)


def _crops(rng: np.random.Generator) -> Classes:
    photos = photographs.load()

    def side(quarter: int) -> list[Picture]:
        return [
            Picture(f"{photo.name} {i}", photo.name, Image.fromarray(crop))
            for photo in photos
            for i, crop in enumerate(
                photographs.draw(photo, rng, quarter, 96) for _ in range(_CROPS)
            )
        ]

    return Classes(side(0), side(1), [])


def _files_by_class(root: Path, shown: str) -> tuple[dict[str, list[Path]], list[str]]:
    if not root.is_dir():
        raise ValueError(f"--data: {shown} is a file; a folder with a folder per class is expected")
    files = defaultdict(list)
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in pictures.SUFFIXES and path.parent != root:
            files[path.parent.relative_to(root).as_posix()].append(path)
    empty = [
        folder.name
        for folder in root.iterdir()
        if folder.is_dir() and not any(path.is_file() for path in folder.rglob("*"))
    ]
    if not files:
        raise ValueError(
            f"--data: no pictures in folders of {shown}; a folder per class is expected"
        )
    return files, [f"class {name}: its folder is empty" for name in sorted(empty)]


def _read_all(paths: list[Path], label: str, left_out: list[str]) -> list[Picture]:
    found = []
    for path in paths:
        try:
            found.append(Picture(f"{label}/{path.name}", label, pictures.read(path)))
        except (ValueError, OSError) as error:
            left_out.append(str(error))
    return found


def is_omniglot(data: str) -> bool:
    """Whether the folder or zip file holds Omniglot's one-shot runs: run01/class_labels.txt."""
    path = Path(data)
    if path.suffix.lower() == ".zip" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return "run01/class_labels.txt" in archive.namelist()
    return (path / "run01" / "class_labels.txt").is_file()


def omniglot_runs(data: str) -> list[Episode]:
    """The 20 official runs of 20-way one-shot classification (Lake et al., Science 2015).

    Raises:
        ValueError: if a run's list is not "test picture, training picture" in two columns.
    """
    with opened(Path(data)) as root:
        return [_run(folder) for folder in sorted(root.glob("run*")) if folder.is_dir()]


def _run(folder: Path) -> Episode:
    rows = [line.split() for line in (folder / "class_labels.txt").read_text().splitlines() if line]
    if not rows or any(len(row) != 2 for row in rows):
        raise ValueError(
            f"{folder.name}/class_labels.txt: expected two columns, a test and a training picture"
        )
    read = lambda name, label: Picture(name, label, pictures.read(folder.parent / name))  # noqa: E731
    queries = [read(test, train) for test, train in rows]
    return Episode([read(name, name) for name in sorted({train for _, train in rows})], queries)


def episodes(
    found: Classes, rng: np.random.Generator, *, way: int, shot: int, count: int, queries: int = 3
) -> list[Episode]:
    """Episodes drawn from classes: `way` of them, `shot` supports and up to `queries` each.

    Raises:
        ValueError: if there are fewer classes than `way`.
    """
    support, asked = defaultdict(list), defaultdict(list)
    for picture in found.gallery:
        support[picture.label].append(picture)
    for picture in found.queries:
        asked[picture.label].append(picture)
    labels = sorted(asked)
    if way > len(labels):
        raise ValueError(f"--way: {way} classes asked for, the data has {len(labels)}")

    def pick(pictures: list[Picture], most: int) -> list[Picture]:
        return [pictures[i] for i in rng.permutation(len(pictures))[:most]]

    def one() -> Episode:
        chosen = [labels[i] for i in rng.permutation(len(labels))[:way]]
        return Episode(
            [picture for label in chosen for picture in pick(support[label], shot)],
            [picture for label in chosen for picture in pick(asked[label], queries)],
        )

    return [one() for _ in range(count)]


def pairs_file(path: Path) -> tuple[list[Pair], list[str]]:
    """Pairs from a CSV file with the columns first, second, same; paths are relative to the file.

    Raises:
        ValueError: if a column is missing, or no pair can be used.
        FileNotFoundError: if there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--data: no such file: {path}")
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(
                f"--data: {path} lacks the column {' and '.join(missing)}; expected: "
                f"{','.join(_COLUMNS)}; it has: {','.join(reader.fieldnames or ()) or 'nothing'}"
            )
        rows = list(reader)
    pairs, left_out, known = [], [], {}

    def picture(name: str) -> Picture:
        if name not in known:
            known[name] = Picture(name, name, pictures.read(path.parent / name))
        return known[name]

    for line, row in enumerate(rows, start=2):
        try:
            same = _SAME[(row["same"] or "").strip().lower()]
            pairs.append(Pair(picture(row["first"]), picture(row["second"]), same))
        except KeyError:
            left_out.append(f"{path.name}, line {line}: same is {row['same']!r}, expected 1 or 0")
        except (ValueError, OSError) as error:
            left_out.append(f"{path.name}, line {line}: {error}")
    if len({pair.same for pair in pairs}) < 2:
        raise ValueError(
            f"--data: {path} needs pairs of both kinds, same 1 and same 0; {len(pairs)} usable"
            + (f" ({'; '.join(left_out[:3])})" if left_out else "")
        )
    return pairs, left_out


def drawn_pairs(found: Classes, rng: np.random.Generator, count: int) -> list[Pair]:
    """As many pairs of one class as of two, a query and a picture of the gallery each."""
    by_label = defaultdict(list)
    for picture in found.gallery:
        by_label[picture.label].append(picture)
    pairs = []
    for i, j in enumerate(np.resize(rng.permutation(len(found.queries)), count)):
        query, same = found.queries[j], i % 2 == 0
        labels = [label for label in sorted(by_label) if (label == query.label) == same]
        pool = by_label[labels[rng.integers(len(labels))]]
        pairs.append(Pair(query, pool[rng.integers(len(pool))], same))
    return pairs
