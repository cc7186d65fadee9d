"""Write a report: its page, thumbnails and manifest, whole or not at all."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from fam_jax._core.brief import legible
from fam_jax.io import files
from fam_jax.io.pictures import Reader
from fam_jax.report._cards import make_cards, shorten_names
from fam_jax.report._choice import choose
from fam_jax.report._page import write_page
from fam_jax.report._thumbnails import Thumbnails
from fam_jax.store import Store

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
    partial: bool = True,
    read: Callable[[str], Image.Image] | None = None,
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
        partial: show what is there of an unfinished store, and count on the page what is not;
            False refuses it.
        read: a path -> an upright RGB picture, as the store's settings say if not given; the card
            shows the text of its ValueError or OSError.

    Returns:
        The files, index.html first.

    Raises:
        ValueError: if no pair is done; if some are not and `partial` is False.
        TypeError: if the store is a path.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from PIL import Image
        >>> from fam_jax import report
        >>> from fam_jax.store import Row
        >>> heat = np.eye(4, dtype=np.float32)
        >>> pair = Row(
        ...     0, "cats", None, "a.jpg", "b.jpg", 0.9, query_map=heat, reference_map=heat
        ... )
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
    if isinstance(store, str | os.PathLike):
        raise TypeError(f"store: expected bulk.open_store(path), got the path {legible(store)}")
    choice = choose(store, limit, order, partial)
    signed = _is_signed(store.settings) if signed is None else signed
    with files.folder(folder, overwrite=overwrite) as stage:
        thumbnails = Thumbnails(stage, read or Reader.of(store.settings))
        cards = make_cards(store, choice.indices, stage, thumbnails, signed=signed)
        shown, shared = shorten_names(cards)
        facts: dict[str, Any] = {
            "order": order,
            "title": title,
            "signed": signed,
            "not_shown": thumbnails.not_shown,
            "settings": dict(store.settings),
        }
        places = {"store": store.path, "pictures in": shared}
        write_page(stage / PAGE, shown, choice, places=places, **facts)
        facts |= {"store": store.path, "limit": limit, "pairs": choice._asdict()}
        names = files.write_manifest(stage, command="report", **facts)
    return [Path(folder) / name for name in sorted(names, key=lambda name: (name != PAGE, name))]


def _is_signed(settings: Mapping[str, Any]) -> bool:
    # A method that is written out in full names its background, too.
    methods = [str(settings.get(name)) for name in ("method_name", "method")]
    named = any(method == "contrastive" or "background=" in method for method in methods)
    return named or bool(settings.get("background"))
