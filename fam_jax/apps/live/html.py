"""Answers as HTML: pictures under their maps, lines of text; nothing of a stranger's is markup."""

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fam_jax import plot
from fam_jax._core.brief import escaped, legible
from fam_jax.apps import drawing, sentences
from fam_jax.apps.drawing import Shown, Side
from fam_jax.apps.live.answers import Answer
from fam_jax.apps.live.compare import Row
from fam_jax.apps.live.points import Met
from fam_jax.apps.live.search import Found
from fam_jax.plot import heat as heats
from fam_jax.plot.figures import remark

_NOTHING = np.zeros((1, 1), np.float32)
_HINT = '<p class="fam-hint">Click a place of one picture: what it meets in the other appears.</p>'
_WIDE = 6.0  # inches of a sentence
_SMALL = 240  # pixels of the longer side, where there are many


def lines(*said: str, wrong: bool = False) -> str:
    """Lines of text: of what went wrong, or of what is to be known."""
    role, kind = ("alert", "fam-error") if wrong else ("status", "fam-said")
    return "".join(f'<p class="{kind}" role="{role}">{_line(line)}</p>' for line in said)


def pair(answer: Answer) -> str:
    """One pair: both pictures under their maps, or a picture and the words of a sentence."""
    (sides,) = answer.sides
    asked = len(sides) == 2  # a sentence has no places
    views = [view(s.name, s.view, s.heat, side=s.role if asked else "") for s in sides]
    if "words" in answer.about:
        words = answer.about["words"][0]
        figure = drawing.words_figure(answer.about, 0, _WIDE)
        views.append(drawn(figure, "" if words["score"] is None else sentences.line(words)))
    hint = _HINT if asked else ""
    return f'{score(answer, 0)}{hint}<div class="fam-row">{"".join(views)}</div>'


def points(sides: Sequence[Side], asked: str, met: Met) -> str:
    """A point of one picture, and what it meets in the other."""
    views = []
    for side in sides:
        own = side.role == asked
        views.append(
            view(
                side.name,
                side.view,
                None if own else met.heat,
                side=side.role,
                dot=met.point if own else met.peak,
                caption="the point" if own else "what it meets",
            )
        )
    said = lines(
        f"this point's part of the score: {met.share:+.4f}; the cross is what it meets most"
    )
    return f'{said}<div class="fam-row">{"".join(views)}</div>'


def hits(found: Found) -> str:
    """The hits, nearest first, each with the query's map and its own."""
    if found.answer is None:
        return ""
    margin = found.answer.about["figures"]["clipped"]
    cards = []
    for i, (hit, sides) in enumerate(zip(found.hits, found.answer.sides, strict=True)):
        name = legible(Path(hit.path).name)
        said = f"{hit.rank}. {name}: {found.answer.about['similarity']} {hit.similarity:.4f}"
        said += f", margin {found.answer.arrays['scores'][i]:.4f}" if margin else ""
        cards.append(_card(said, sides))
    return f'<div class="fam-cards">{"".join(cards)}</div>'


def methods(rows: Sequence[Row]) -> str:
    """A card for each method, and why others have none."""
    cards = [_card(row.method, row.answer.sides[0]) for row in rows if row.answer]
    left_out = [f"{row.method}: {row.why}" for row in rows if row.answer is None]
    return f'<div class="fam-cards">{"".join(cards)}</div>{lines(*left_out)}'


def drawn(figure: Any, alt: str) -> str:
    """A figure of matplotlib; "" for none."""
    if figure is None:
        return ""
    file = BytesIO()
    figure.savefig(file, format="png")
    image = f'<img class="fam-drawn" src="{_data(file, "png")}" alt="{_line(alt)}">'
    return f'<figure class="fam-figure">{image}</figure>'


def score(answer: Answer, i: int) -> str:
    """What a pair scored, of what."""
    title = answer.about["figures"]["title"]
    return f'<p class="fam-score">{_line(title)} <b>{answer.arrays["scores"][i]:.4f}</b></p>'


def view(
    name: str,
    shown: Shown,
    map_: np.ndarray | None,
    *,
    side: str = "",
    dot: tuple[float, float] | None = None,
    caption: str = "",
    small: bool = False,
) -> str:
    """A picture under its map; of a `side` it can be asked for a point of it."""
    picture = Image.fromarray(plot.overlay(shown, _NOTHING))
    width, height = shown.picture.size
    if small:
        picture.thumbnail((_SMALL, _SMALL))
    left, top, right, bottom = shown.box
    size = round(right - left), round(bottom - top)
    unit = heats.scaled(_NOTHING if map_ is None else map_, size)
    layers = ""
    if unit.any():
        place = {
            "left": left / width,
            "top": top / height,
            "width": (right - left) / width,
            "height": (bottom - top) / height,
        }
        style = ";".join(f"{name}:{100 * share:.3f}%" for name, share in place.items())
        words = heats.describe(unit)
        layers += f'<img class="fam-heat" src="{_heat(unit)}" alt="Map: {words}" style="{style}">'
    if dot:
        kind = "fam-dot" if map_ is None else "fam-cross"
        layers += f'<i class="{kind}" style="left:{100 * dot[0]:.2f}%;top:{100 * dot[1]:.2f}%"></i>'
    about = f'alt="{_name(name)}" width="{picture.width}" height="{picture.height}"'
    ask = ""
    if side:
        what = f"{_name(name)}: click a point, or move it with the arrow keys and press Enter"
        ask = f' data-side="{side}" tabindex="0" role="button" aria-label="{what}"'
    said = "" if small else _name(name), caption, "" if map_ is None else remark(map_)
    below = " · ".join(filter(None, said))
    return (
        f'<figure class="fam-figure"><div class="fam-view"{ask}>'
        f'<img class="fam-picture" src="{_jpeg(picture)}" {about}>{layers}</div>'
        f"<figcaption>{below}</figcaption></figure>"
    )


def opacity() -> str:
    """The slider that all maps share, and what the colours mean."""
    value = round(100 * heats.OPACITY)
    return (
        '<div class="fam-opacity"><label for="fam-opacity">Opacity of all maps</label>'
        f'<input id="fam-opacity" type="range" min="0" max="100" value="{value}">'
        f'<output for="fam-opacity">{value} %</output>'
        f'<span class="fam-scale">low<i style="background:{heats.gradient()}"></i>high</span></div>'
    )


def _card(title: str, sides: Sequence[Side]) -> str:
    views = "".join(view(side.name, side.view, side.heat, small=True) for side in sides)
    return f'<section class="fam-card"><h3>{_line(title)}</h3><div>{views}</div></section>'


def _name(words: object) -> str:
    """A name from outside, its middle cut."""
    return escape(legible(words))


def _line(words: str) -> str:
    return escape(escaped(words))


def _jpeg(picture: Image.Image) -> str:
    file = BytesIO()
    picture.save(file, "JPEG", quality=88)
    return _data(file, "jpeg")


def _heat(unit: np.ndarray) -> str:
    file = BytesIO()
    heats.save(unit, file)
    return _data(file, "png")


def _data(file: BytesIO, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
