"""The code that the README and the guides show."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Block(NamedTuple):
    """A fenced block: its language, what else the fence says, and the code."""

    language: str
    note: str
    code: str

    def lines(self) -> list[list[str]]:
        """The commands of a shell block as words, without comments."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def every_block(text: str) -> list[Block]:
    """The fenced blocks of a document, in the order they stand."""
    found = re.findall(r"^```(\S*) ?([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(*parts) for parts in found]


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a document in one language, in order."""
    return [block.code for block in every_block(text) if block.language == language]
