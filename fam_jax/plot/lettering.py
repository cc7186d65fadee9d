"""Text in figures as it is: no formulas, wrapped, in fonts that have its letters."""

import textwrap
from functools import lru_cache
from typing import Any

from matplotlib.font_manager import FontProperties, fontManager, get_font

_LAST_RESORT = "Last Resort"  # draws a box for every letter there is


def lettered(text: str, width: int = 90, name: str = "t") -> dict[str, Any]:
    r"""Arguments of a matplotlib title that draw the text as it is.

    Letters that no installed font has, and those that cannot be seen, are drawn as escapes; a line
    break is one.

    Args:
        text: any string: a file name, a sentence.
        width: letters after which a line ends.
        name: what the matplotlib function calls the text.

    Examples:
        >>> from fam_jax.plot.lettering import lettered
        >>> lettered("a$b$\t.jpg")["t"]
        'a$b$\\t.jpg'
    """
    plain = "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)
    families, lacking = _fonts(frozenset(c for c in plain if ord(c) > 126))
    plain = "".join(_escape(c) if c in lacking else c for c in plain)
    wrapped = (textwrap.fill(line, width, break_on_hyphens=False) for line in plain.split("\n"))
    return {name: "\n".join(wrapped), "parse_math": False, "fontfamily": list(families)}


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


@lru_cache(maxsize=256)
def _fonts(letters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Families that have the letters, beginning with the usual one, and the letters none has."""
    families = FontProperties().get_family()
    usual = fontManager.findfont(FontProperties(family=families))
    lacking = letters - _covered(usual)
    if lacking:
        for font in sorted(fontManager.ttflist, key=lambda font: (font.weight != 400, font.name)):
            if _LAST_RESORT in font.name or font.style != "normal" or font.name in families:
                continue
            if has := lacking & _covered(font.fname):
                families = [*families, font.name]
                lacking -= has
    return tuple(families), frozenset(lacking)


@lru_cache(maxsize=512)
def _covered(file: str) -> frozenset[str]:
    return frozenset(map(chr, get_font(file).get_charmap()))
