"""The page in a real browser as it is seen: widths, contrast, motion."""

import numpy as np
import pytest

pytest.importorskip("jinja2", reason='needs pip install ".[report]"')


@pytest.mark.parametrize("width", [320, 400, 1280])
def test_nothing_is_wider_than_the_screen(width, visit, folder):
    page = visit(folder).page
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(scheme, visit, folder):
    """At least 4.5 to 1 (WCAG 2, AA) for the text of every kind of element."""
    page = visit(folder, color_scheme=scheme).page
    pairs = page.evaluate(
        """() => {
            const ground = (e) => {
                for (; e; e = e.parentElement) {
                    const colour = getComputedStyle(e).backgroundColor;
                    if (colour !== "rgba(0, 0, 0, 0)") return colour;
                }
            };
            const names = "h1, .setup, .summary, .counts dt, summary, legend, label, select, " +
                "button, #shown, output, .scale, h3, .label, .score, .reason, .role, .name, " +
                ".missing, .switch, footer";
            return Array.from(document.querySelectorAll(names), (e) =>
                [e.className || e.tagName, getComputedStyle(e).color, ground(e)]);
        }"""
    )
    assert len({name for name, _, _ in pairs}) >= 15
    low = {name: contrast(ink, paper) for name, ink, paper in pairs if contrast(ink, paper) < 4.5}
    assert low == {}


def contrast(ink, paper):
    light = sorted(map(luminance, (ink, paper)))
    return (light[1] + 0.05) / (light[0] + 0.05)


def luminance(colour):
    values = colour[colour.index("(") + 1 : -1].split(",")[:3]
    rgb = np.array([float(value) / 255 for value in values])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_motion_is_kept_from_those_who_do_not_want_it(visit, folder):
    transition = "getComputedStyle(document.querySelector('.map')).transitionDuration"
    assert visit(folder).page.evaluate(transition) == "0.12s"
    assert visit(folder, reduced_motion="reduce").page.evaluate(transition) == "0s"
