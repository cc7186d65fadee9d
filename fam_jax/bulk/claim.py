"""A store belongs to one job: what the job was asked, as plain values, and the check of it."""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from fam_jax.bulk import cluster
from fam_jax.bulk.store import read_settings, write_settings

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def digest(tree: Any) -> str:
    """SHA-256 of a pytree's arrays: shapes, types and bytes."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.asarray(_numbers(leaf))
        found.update(f"{array.dtype} {array.shape};".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _numbers(leaf: Any) -> Any:
    """A leaf, or the numbers behind a random key."""
    key = jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if key else leaf


def described(tree: Any) -> str:
    """A pytree's static parts in words, its arrays as shapes: a method and its options."""
    shapes = jax.tree.map(lambda x: f"{jnp.result_type(x)}{list(np.shape(x))}", tree)
    return _ADDRESS.sub("", repr(shapes))


def claim(
    path: str, settings: Mapping[str, Any], own: Collection[str], save: Callable[[epath.Path], None]
) -> None:
    """Make a store, or find the one that the same job made.

    Args:
        path: where it is.
        settings: what it is made with; `asked` in it must be the same as in one that is there.
        own: names of files that a job which was stopped here may have left.
        save: writes the names of the rows into the folder.

    Raises:
        ValueError: one line that names every difference.
        FileExistsError: the folder holds something else.
        OSError: it cannot be written.
    """
    there = read_settings(path)
    if there is not None:
        _refuse_other(path, there["asked"], settings["asked"])
    cluster.meet("claim")  # nobody writes before all have looked

    def make() -> None:
        if there is not None:
            return
        folder = epath.Path(path)
        try:
            there_are = {p.name for p in folder.iterdir()} if folder.exists() else set()
            if others := sorted(there_are - set(own)):
                raise FileExistsError(
                    f"{path} is no store and not empty: it holds {', '.join(others[:3])}"
                )
            folder.mkdir(parents=True, exist_ok=True)
            save(folder)
        except FileExistsError:
            raise
        except OSError as error:
            raise OSError(f"cannot write {path}: {error.strerror or error}") from None
        write_settings(path, settings)

    cluster.first(make)


def _refuse_other(path: str, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    names = sorted(there.keys() | wanted.keys())
    other = [name for name in names if there.get(name) != wanted.get(name)]
    if other:
        differences = "; ".join(
            f"{name}: {_short(there.get(name))} there, {_short(wanted.get(name))} now"
            for name in other
        )
        raise ValueError(f"{path} is the store of another job ({differences}); take another --out")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
