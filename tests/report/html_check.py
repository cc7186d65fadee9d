"""What every page owes those who do not see it: labels, alternatives, an outline."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "link", "img", "input", "br"}
CONTROLS = {"input", "select", "button", "textarea"}


@dataclass
class Element:
    tag: str
    attributes: dict
    text: str = ""
    inside: tuple[str, ...] = ()


@dataclass
class Page:
    elements: list[Element] = field(default_factory=list)

    def all(self, *tags):
        return [e for e in self.elements if e.tag in tags]

    def texts(self, tag):
        return [" ".join(e.text.split()) for e in self.all(tag)]


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.page, self.open = Page(), []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> with an attribute twice: {names}"
        element = Element(tag, dict(attrs), inside=tuple(e.tag for e in self.open))
        self.page.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> ends nothing"
        assert self.open[-1].tag == tag, f"</{tag}> inside <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data):
        for element in self.open:
            element.text += data


def parse(text: str) -> Page:
    """The page's elements; fails where its tags do not close in order."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open, f"not closed: {[e.tag for e in reader.open]}"
    return reader.page


def problems(page: Page) -> list[str]:
    """What is missing, in words."""
    faults = []
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    faults += [f"id twice: {name}" for name in sorted({i for i in ids if ids.count(i) > 1})]
    labels = {e.attributes.get("for"): e.text.strip() for e in page.all("label")}
    for e in page.all(*CONTROLS):
        inside_label = "label" in e.inside
        own = e.tag == "button" and e.text.strip()
        if not (labels.get(e.attributes.get("id")) or inside_label or own):
            faults.append(f"no label: <{e.tag} {e.attributes}>")
    faults += [f"empty label: {e.attributes}" for e in page.all("label") if not e.text.strip()]
    for e in page.all("img"):
        if not e.attributes.get("alt"):
            faults.append(f"no alt: {e.attributes}")
        if not {"width", "height"} <= e.attributes.keys():
            faults.append(f"no size: {e.attributes}")
    for e in page.elements:
        for name in ("for", "aria-labelledby"):
            if name in e.attributes and e.attributes[name] not in ids:
                faults.append(f"<{e.tag}> points at nothing: {e.attributes[name]}")
    levels = [int(e.tag[1]) for e in page.all("h1", "h2", "h3", "h4", "h5", "h6")]
    if levels.count(1) != 1 or levels[0] != 1:
        faults.append(f"not one h1 that comes first: {levels[:5]}")
    jumps = [(a, b) for a, b in pairwise(levels) if b > a + 1]
    faults += [f"heading {a} followed by {b}" for a, b in jumps]
    faults += [f"no <{tag}>" for tag in ("header", "main", "footer") if not page.all(tag)]
    if not page.all("html")[0].attributes.get("lang"):
        faults.append("no language")
    return faults
