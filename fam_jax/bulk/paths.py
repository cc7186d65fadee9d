"""Paths and URLs of stores."""

import os
from typing import Any


def absolute(path: Any) -> str:
    """A local path made absolute, or a URL (gs://bucket/folder) as it is; no slash at the end."""
    text = os.fspath(path)
    return text.rstrip("/") if "://" in text else os.path.abspath(text)
