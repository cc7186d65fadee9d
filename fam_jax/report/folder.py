"""Write a report: its page, thumbnails and manifest, whole or not at all."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from fam_jax.io import files, pictures
from fam_jax.report import cards, page
from fam_jax.report.pictures import Thumbnails
from fam_jax.report.store import Store, choose

PAGE = "index.html"


def write(
    store: Store,
    folder: str | os.PathLike,
    *,
    limit: int = 1000,
    order: str = "store",
    title: str | None = None,
    signed: bool | None = None,
    overwrite: bool = False,
    read: Callable[[str], Image.Image] = pictures.read,
) -> list[Path]:
    """Write explained pairs as a static page with thumbnails: no server, no network.

    Args:
        store: the explained pairs.
        folder: where index.html and its pictures go.
        limit: how many pairs at most.
        order: which come first: "store", "highest" or "lowest" (scores).
        title: the page's heading.
        signed: whether negative values are evidence against a pair and not drawn; by default
            where the store's settings name a background, as `fam-jax explain` does.
        overwrite: replace an earlier report in that folder.
        read: a path to an upright RGB picture. A ValueError or OSError is told on the card.

    Returns:
        The files, index.html first.

    Raises:
        ValueError: for an unknown order, a limit below 1, or if no pair is done.
        FileExistsError: if the folder holds something and `overwrite` is not set.
        OSError: if it cannot be written.

    Example:
        >>> import tempfile
        >>> from types import SimpleNamespace
        >>> import numpy as np
        >>> from PIL import Image
        >>> from fam_jax import report
        >>> heat = np.eye(4, dtype=np.float32)
        >>> pair = SimpleNamespace(
        ...     index=0, id="cats", label=None, query="a.jpg", reference="b.jpg", score=0.9,
        ...     status=1, reason="", query_map=heat, reference_map=heat, query_box=None,
        ...     reference_box=None)
        >>> class Pairs:
        ...     path, settings = "memory", {"model": "tiny"}
        ...     def __len__(self): return 1
        ...     def scores(self): return np.float32([pair.score])
        ...     def status(self): return np.uint8([pair.status])
        ...     def rows(self, indices): return [pair for _ in indices]
        >>> files = report.write(Pairs(), tempfile.mkdtemp(), read=lambda path: Image.new(
        ...     "RGB", (64, 48)))
        >>> [file.name for file in files][:3]
        ['index.html', 'manifest.json', 'map-0000000-query.png']
    """
    choice = choose(store, limit, order)
    signed = _is_signed(store.settings) if signed is None else signed
    with files.folder(folder, overwrite=overwrite) as stage:
        thumbnails = Thumbnails(stage, read)
        made = cards.make(store, choice.indices, stage, thumbnails, signed=signed)
        shown, shared = cards.shorten(made)
        page.write(
            stage / PAGE,
            shown,
            choice,
            order=order,
            title=title,
            settings=store.settings,
            places={"store": store.path, "pictures in": shared},
            not_shown=thumbnails.not_shown,
            signed=signed,
        )
        names = files.write_manifest(
            stage,
            command="report",
            store=store.path,
            settings=dict(store.settings),
            order=order,
            limit=limit,
            signed=signed,
            title=title,
            pairs=choice._asdict(),
            not_shown=thumbnails.not_shown,
        )
    return [Path(folder) / name for name in sorted(names, key=lambda name: (name != PAGE, name))]


def _is_signed(settings: Mapping[str, Any]) -> bool:
    named = settings.get("method_name"), settings.get("method")
    # A method that is written out in full names its background, too.
    in_full = any("background=" in name for name in named if isinstance(name, str))
    return "contrastive" in named or bool(settings.get("background")) or in_full
