"""The code that the README and the guides show."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a document in one language, in order."""
    return re.findall(rf"^```{language}[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
