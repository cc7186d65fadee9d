"""A store belongs to one job: its settings as plain values, and who writes them."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from fam_jax._core.brief import escaped, legible
from fam_jax.bulk._attributes import check_settings, read_settings, write_settings
from fam_jax.bulk._zarr import Column, Group, decode_text, encode_text
from fam_jax.io import files

_ERROR_BYTES = 400


def digest(tree: Any) -> str:
    """SHA-256 of a pytree's arrays: shapes, types and bytes."""
    sha = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        is_key = jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        sha.update(f"{array.dtype} {array.shape};".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def prepare_store(
    path: str, settings: Mapping[str, Any], own: Collection[str], save: Callable[[epath.Path], None]
) -> None:
    """Make a store, or check that the one at this path is of the same job: that `asked` is.

    `save` writes the names of the rows into the folder, in files called `own`; a job that was
    stopped here may have left them.

    Raises:
        ValueError: one line that names every difference.
        FileExistsError: the folder holds something else.
        OSError: it cannot be written.
    """
    existing = read_settings(path)
    if existing is not None:
        check_settings(path, existing, ())
        there, now = existing["asked"], settings["asked"]
        differences = [
            f"{name}: {_short(there.get(name))} there, {_short(now.get(name))} now"
            for name in sorted(there.keys() | now.keys())
            if there.get(name) != now.get(name)
        ]
        if differences:
            raise ValueError(
                f"{legible(path)} is the store of another job ({'; '.join(differences)}); take "
                "another --output"
            )
    barrier("settings")  # nobody writes before all have looked
    if existing is None:
        on_first_process(lambda: _make_store(path, settings, own, save))


def _short(value: Any) -> str:
    text = escaped(str(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _make_store(
    path: str, settings: Mapping[str, Any], own: Collection[str], save: Callable[[epath.Path], None]
) -> None:
    folder = epath.Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        left = files.parts(folder, own)
        others = {file.name for file in folder.iterdir()} - {file.name for file in left} - {*own}
        if not others:
            for part in left:
                part.unlink()
            save(folder)
    except OSError as error:
        raise OSError(f"cannot write {legible(path)}: {error.strerror or error}") from None
    if others:
        raise FileExistsError(
            f"{legible(path)} is no store and not empty: it holds "
            f"{', '.join(map(legible, sorted(others)[:3]))}"
        )
    write_settings(path, settings)


def on_first_process(action: Callable[[], Any], like: np.ndarray | None = None) -> Any:
    """Run `action` in the first process only; its result and its error reach all of them.

    The result is an array of the shape and type of `like`; without `like` there is none.
    """
    if jax.process_count() == 1:
        return action()
    result, error = np.zeros(0, np.uint8) if like is None else like, None
    if jax.process_index() == 0:
        try:
            returned = action()
            result = result if like is None else returned
        except Exception as raised:  # the others must not wait for what will not come
            error = raised
    text = encode_text([str(error or "")], _ERROR_BYTES)
    result, text = multihost_utils.broadcast_one_to_all((result, text))
    if error is not None:
        raise error
    if message := decode_text(text)[0]:
        raise OSError(message)
    return np.asarray(result)


def barrier(name: str) -> None:
    """Wait until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def create_group(
    path: str, shape: tuple[int, ...], chunk_shape: tuple[int, ...], columns: dict[str, Column]
) -> Group:
    """A group to be written; one process makes its arrays, all open them."""
    create = partial(Group, path, shape, chunk_shape, columns, write=True)
    on_first_process(create)
    return create()


def missing_chunks(group: Group) -> np.ndarray:
    """The chunks that are not written, or were damaged, the same in every process."""
    whole = on_first_process(group.remove_damaged, np.zeros(len(group), bool))
    return np.flatnonzero(~whole)
