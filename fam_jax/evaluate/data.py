"""Pictures to evaluate on: folders of classes, Omniglot's runs, pairs files, photographs at hand.

What cannot be used is left out and named in one line each; the rest goes on.
"""

import csv
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from PIL import Image

from fam_jax._core.brief import address, legible, message
from fam_jax.io import photographs
from fam_jax.io.pictures import READER, Reader, scan, tried

PHOTOGRAPHS = "photographs"  # in place of a path: those in scikit-image and scikit-learn
_GROWTH, _LITTLE = 100, 2**26  # times its bytes that a .zip may fill, and what any may
_CROPS = 16  # of each held-out quarter of a photograph
_COLUMNS = ("first", "second", "same")
_SAME = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class Picture(NamedTuple):
    """A picture with its class."""

    name: str
    label: str
    image: Image.Image


class Classes(NamedTuple):
    """Queries, other pictures of the same classes, and a line for whatever could not be used."""

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
    if address(path):
        raise ValueError(f"--data: {legible(path)} is an address; a local folder or file is read")
    if not path.exists():
        raise FileNotFoundError(f"--data: no such file or folder: {legible(path)}")
    if path.suffix.lower() != ".zip":
        yield path
        return
    with TemporaryDirectory(prefix="fam-jax-") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                fills, size = sum(one.file_size for one in archive.infolist()), path.stat().st_size
                if fills > _GROWTH * size + _LITTLE:
                    raise ValueError(
                        f"--data: {legible(path)} would fill {fills:,} bytes from {size:,}"
                    )
                archive.extractall(folder)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise ValueError(
                f"--data: {legible(path)} is not a zip file, or damaged: {message(error)}"
            ) from None
        yield Path(folder)


def classes(data: str, rng: np.random.Generator, reader: Reader = READER) -> Classes:
    """A class per folder (nested folders by their whole path), or the photographs at hand.

    Half of every class asks, the other half is the gallery; drawn by `rng`. Of the photographs,
    the held-out quarters: crops of one ask, crops of the other are the gallery.
    """
    if data == PHOTOGRAPHS:
        return _crops(rng)
    with opened(Path(data)) as root:
        by_class, left_out = _by_folder(root, data, reader)
    queries, gallery = [], []
    for label, pictures in by_class.items():
        if len(pictures) < 2:
            left_out.append(
                f"class {legible(label)}: {len(pictures)} picture; at least 2 are needed"
            )
            continue
        order = rng.permutation(len(pictures))
        half = (len(pictures) + 1) // 2
        gallery += [pictures[i] for i in order[:half]]
        queries += [pictures[i] for i in order[half:]]
    if len(by_label(queries)) < 2:
        raise ValueError(
            f"--data: {data} has fewer than two classes of two pictures or more; a folder per "
            f"class is expected{because(left_out)}"
        )
    return Classes(queries, gallery, left_out)


def because(left_out: list[str]) -> str:
    """The first reasons why nothing could be used, in brackets."""
    return f" ({'; '.join(left_out[:3])})" if left_out else ""


def by_label(pictures: list[Picture]) -> dict[str, list[Picture]]:
    """The pictures of each label, in the order of the labels."""
    label = attrgetter("label")
    return {name: list(group) for name, group in groupby(sorted(pictures, key=label), label)}


def _crops(rng: np.random.Generator) -> Classes:
    photos = photographs.load()

    def picture(photo: photographs.Photograph, quarter: int, number: int) -> Picture:
        crop = Image.fromarray(photographs.draw(photo, rng, quarter, 96))
        return Picture(f"{photo.name} {number}", photo.name, crop)

    queries, gallery = (
        [picture(photo, quarter, i) for photo in photos for i in range(_CROPS)]
        for quarter in (0, 1)
    )
    return Classes(queries, gallery, [])


def _by_folder(
    root: Path, shown: str, reader: Reader
) -> tuple[dict[str, list[Picture]], list[str]]:
    """Folder -> its pictures, and a line for each that cannot be read and each empty folder."""
    if not root.is_dir():
        raise ValueError(
            f"--data: {legible(shown)} is a file; a folder with a folder per class is expected"
        )
    left_out = [
        f"class {legible(folder.name)}: its folder is empty"
        for folder in sorted(root.iterdir())
        if folder.is_dir() and not any(path.is_file() for path in folder.rglob("*"))
    ]
    by_class = defaultdict(list)
    for path in map(Path, _files(root, shown, left_out)):
        if path.parent != root.absolute():
            label = path.parent.relative_to(root.absolute()).as_posix()
            pictures = by_class[label]
            image, reason = tried(reader, path)
            if image is None:
                left_out.append(reason)
            else:
                pictures.append(Picture(f"{label}/{path.name}", label, image))
    if not by_class:
        raise ValueError(
            f"--data: no pictures in folders of {legible(shown)}; a folder per class is expected"
        )
    return by_class, left_out


def _files(root: Path, shown: str, left_out: list[str]) -> list[str]:
    try:
        listing = scan(root)
    except FileNotFoundError:  # no picture at all
        return []
    if listing.skipped:
        left_out.append(f"{legible(shown)}: {listing}")
    return listing.files


def is_omniglot(data: str) -> bool:
    """Whether the folder or zip file holds Omniglot's one-shot runs: run01/class_labels.txt."""
    if data.lower().endswith(".zip") and zipfile.is_zipfile(data):
        with zipfile.ZipFile(data) as archive:
            return "run01/class_labels.txt" in archive.namelist()
    return (Path(data) / "run01" / "class_labels.txt").is_file()


def omniglot_runs(data: str, reader: Reader = READER) -> list[Episode]:
    """The 20 official runs of 20-way one-shot classification (Lake et al., Science 2015)."""
    with opened(Path(data)) as root:
        return [_run(folder, reader) for folder in sorted(root.glob("run*")) if folder.is_dir()]


def _run(folder: Path, reader: Reader) -> Episode:
    labels = (folder / "class_labels.txt").read_text(errors="replace")
    rows = [line.split() for line in labels.splitlines() if line]
    if not rows or any(len(row) != 2 for row in rows):
        raise ValueError(
            f"{legible(folder.name)}/class_labels.txt: expected two columns, a test and a "
            "training picture"
        )
    training = [(name, name) for name in sorted({train for _, train in rows})]
    support, queries = (
        [Picture(name, label, reader(folder.parent / name)) for name, label in some]
        for some in (training, rows)
    )
    return Episode(support, queries)


def episodes(
    classes: Classes, rng: np.random.Generator, *, way: int, shot: int, count: int, queries: int = 3
) -> list[Episode]:
    """Episodes drawn from classes: `way` of them, `shot` supports and up to `queries` each."""
    support, asked = by_label(classes.gallery), by_label(classes.queries)
    labels = list(asked)
    if way > len(labels):
        raise ValueError(f"--way: {way} classes asked for, the data has {len(labels)}")

    def pick(pictures: list[Picture], most: int) -> list[Picture]:
        return [pictures[i] for i in rng.permutation(len(pictures))[:most]]

    drawn = []
    for _ in range(count):
        chosen = [labels[i] for i in rng.permutation(len(labels))[:way]]
        supports = [picture for label in chosen for picture in pick(support[label], shot)]
        drawn.append(
            Episode(supports, [p for label in chosen for p in pick(asked[label], queries)])
        )
    return drawn


def pairs_file(path: Path, reader: Reader = READER) -> tuple[list[Pair], list[str]]:
    """Pairs of a CSV file, whose paths are relative to it, and a line for each not usable one."""
    if not path.is_file():
        raise FileNotFoundError(f"--data: no such file: {legible(path)}")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns, rows = table.fieldnames or (), list(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"--data: {legible(path)} is no CSV file: {message(error)}") from None
    if missing := [name for name in _COLUMNS if name not in columns]:
        raise ValueError(
            f"--data: {legible(path)} lacks the column {' and '.join(missing)}; expected: "
            f"{','.join(_COLUMNS)}; it has: {','.join(columns) or 'nothing'}"
        )
    if twice := [name for name in _COLUMNS if list(columns).count(name) > 1]:
        raise ValueError(f"--data: {legible(path)}: several columns are called {', '.join(twice)}")
    pairs, left_out, where = [], [], legible(path.name)

    @cache
    def picture(name: str) -> tuple[Image.Image | None, str]:
        return tried(reader, path.parent / name)

    for line, row in enumerate(rows, start=2):
        same, names = _SAME.get((row["same"] or "").strip().lower()), (row["first"], row["second"])
        if same is None:
            reason = f"same is {legible(row['same'])!r}, expected 1 or 0"
        elif not all(names):
            reason = "a picture is not named"
        else:
            (first, why), (second, why_too) = map(picture, names)
            if first is not None and second is not None:
                one, other = names
                pairs.append(Pair(Picture(one, one, first), Picture(other, other, second), same))
                continue
            reason = why or why_too
        left_out.append(f"{where}, line {line}: {reason}")
    if len({pair.same for pair in pairs}) < 2:
        raise ValueError(
            f"--data: {legible(path)} needs pairs of both kinds, same 1 and same 0; "
            f"{len(pairs)} usable{because(left_out)}"
        )
    return pairs, left_out


def drawn_pairs(classes: Classes, rng: np.random.Generator, count: int) -> list[Pair]:
    """As many pairs of one class as of two, a query and a picture of the gallery each."""
    gallery, pairs = by_label(classes.gallery), []
    for i, j in enumerate(np.resize(rng.permutation(len(classes.queries)), count)):
        query, same = classes.queries[j], i % 2 == 0
        labels = [label for label in gallery if (label == query.label) == same]
        pool = gallery[labels[rng.integers(len(labels))]]
        pairs.append(Pair(query, pool[rng.integers(len(pool))], same))
    return pairs
