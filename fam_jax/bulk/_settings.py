"""A store belongs to one job: its settings as plain values, and who writes them."""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from fam_jax.bulk._zarr import read_settings, write_settings

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_ERROR_BYTES = 400


def digest(tree: Any) -> str:
    """SHA-256 of a pytree's arrays: shapes, types and bytes."""
    sha = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.asarray(_numbers(leaf))
        sha.update(f"{array.dtype} {array.shape};".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def _numbers(leaf: Any) -> Any:
    """A leaf, or the numbers behind a random key."""
    is_key = jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def describe(tree: Any) -> str:
    """A pytree's static parts in words, its arrays as shapes: a method and its options."""
    shapes = jax.tree.map(lambda x: f"{jnp.result_type(x)}{list(np.shape(x))}", tree)
    return _ADDRESS.sub("", repr(shapes))


def prepare_store(
    path: str, settings: Mapping[str, Any], own: Collection[str], save: Callable[[epath.Path], None]
) -> None:
    """Make a store, or check that the one at this path is of the same job.

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
    existing = read_settings(path)
    if existing is not None:
        check_same_job(path, existing["asked"], settings["asked"])
    barrier("settings")  # nobody writes before all have looked
    if existing is None:
        on_first_process(lambda: _make_store(path, settings, own, save))


def check_same_job(path: str, existing: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise a ValueError that names every difference between two jobs, if there is one."""
    names = sorted(existing.keys() | asked.keys())
    differences = [
        f"{name}: {_short(existing.get(name))} there, {_short(asked.get(name))} now"
        for name in names
        if existing.get(name) != asked.get(name)
    ]
    if differences:
        raise ValueError(
            f"{path} is the store of another job ({'; '.join(differences)}); take another --output"
        )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _make_store(
    path: str, settings: Mapping[str, Any], own: Collection[str], save: Callable[[epath.Path], None]
) -> None:
    folder = epath.Path(path)
    try:
        names = {p.name for p in folder.iterdir()} if folder.exists() else set()
        if others := sorted(names - set(own)):
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


def on_first_process(action: Callable[[], Any], like: np.ndarray | None = None) -> Any:
    """Run `action` in the first process only; its result and its error reach all of them.

    Args:
        action: what to run.
        like: an array of the result's shape and type; None if there is no result.
    """
    if jax.process_count() == 1:
        return action()
    result = np.zeros(0, np.uint8) if like is None else like
    text, error = np.zeros(_ERROR_BYTES, np.uint8), None
    if jax.process_index() == 0:
        try:
            returned = action()
            result = result if like is None else returned
        except Exception as raised:  # the others must not wait for what will not come
            error = raised
            data = str(raised).encode()[:_ERROR_BYTES]
            text[: len(data)] = np.frombuffer(data, np.uint8)
    result, text = multihost_utils.broadcast_one_to_all((result, text))
    if error is not None:
        raise error
    if text.any():
        raise OSError(bytes(text).rstrip(b"\0").decode(errors="replace"))
    return np.asarray(result)


def barrier(name: str) -> None:
    """Wait until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
