"""What a store was made with: the attributes of its zarr group."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from fam_jax._core.brief import legible
from fam_jax.bulk._zarr import StoreError, kvstore, wait

_ROOT = "zarr.json"


def read_settings(path: str) -> dict[str, Any] | None:
    """What a store was made with; None where there is no store."""
    root = kvstore(path)
    entry = wait(root.read(_ROOT), doing=f"read {path}")[0]
    if entry.state != "value":
        return None
    try:
        return json.loads(entry.value)["attributes"]["fam_jax"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise StoreError(f"{legible(path)} is a zarr group of something else") from None


def check_settings(path: str, settings: Any, asked: Iterable[str], own: Iterable[str] = ()) -> None:
    """Raise StoreError unless a store's settings have what its reader needs."""
    there = settings.get("asked") if isinstance(settings, dict) else None
    missing = ["asked"]
    if isinstance(there, dict):
        missing = [name for name in asked if name not in there]
        missing += [name for name in own if name not in settings]
    if missing:
        raise StoreError(
            f"{legible(path)} is damaged: its zarr.json does not say {', '.join(missing)}"
        )


def write_settings(path: str, settings: Mapping[str, Any]) -> None:
    """Make the group: from here on it is a store."""
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"fam_jax": dict(settings)}}
    text = json.dumps(group, indent=2, sort_keys=True).encode()
    wait(kvstore(path).write(_ROOT, text), doing=f"write {path}")
