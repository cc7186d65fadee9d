"""The page itself: one HTML file with its style and its script inside."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from fam_jax._core.brief import escaped
from fam_jax._core.extras import needed
from fam_jax.plot import heat
from fam_jax.report._cards import Card
from fam_jax.report._choice import ORDERS, Choice

with needed("the report needs", "report"):
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

TITLE = "Why these pairs look alike"


def write_page(
    file: Path,
    cards: Sequence[Card],
    choice: Choice,
    *,
    order: str,
    title: str | None,
    settings: Mapping[str, Any],
    places: Mapping[str, str],
    not_shown: int,
    signed: bool,
) -> None:
    """Write the page of these cards, which lists the settings, and what lies at which places."""
    # Whatever is not Markup is escaped: a file may be called <b>"'&.jpg.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = lambda value: f"{value:,}"
    scores = [card.score for card in cards if card.score is not None]
    stream = environment.from_string(_part("page.html")).stream(
        style=Markup(_part("page.css")),
        script=Markup(_part("page.js")),
        title=escaped(title or TITLE),
        setup=_setup(settings),
        order=order,
        orders=ORDERS,
        summary=_summary(choice, order),
        choice=choice,
        not_shown=not_shown,
        signed=signed,
        settings=_listed({**settings, **places}),
        cards=cards,
        lowest=f"{min(scores):.4f}" if scores else "",
        highest=f"{max(scores):.4f}" if scores else "",
        opacity=round(100 * heat.OPACITY),
        gradient=Markup(heat.gradient()),
    )
    stream.enable_buffering(100)
    with file.open("wb") as out:
        stream.dump(out, encoding="utf-8")


def _setup(settings: Mapping[str, Any]) -> list[str]:
    """The main settings that are short: names, not the representations of objects."""
    method = settings.get("method_name") or settings.get("method")
    values = settings.get("model"), settings.get("layer"), method, settings.get("similarity")
    return [escaped(v) for v in values if isinstance(v, str) and 0 < len(v) <= 60]


def _summary(choice: Choice, order: str) -> str:
    shown, done = len(choice.indices), choice.valid + choice.invalid
    if done == 1:
        return "One pair."
    count = f"All {shown:,}" if shown == done else f"{shown:,} of {done:,}"
    return f"{count} pairs, {ORDERS[order]}."


def _listed(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values as text, without those that are empty."""
    texts = {
        str(name): value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in settings.items()
        if value not in (None, "", [], {})
    }
    return [(escaped(name), escaped(text)) for name, text in texts.items()]


def _part(name: str) -> str:
    return files("fam_jax.report").joinpath(name).read_text("utf-8")
