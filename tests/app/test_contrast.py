"""Every mark of the charts stands out at least 3 to 1 from the page behind it, light and dark."""

import re
from pathlib import Path

import pytest

from app.components.part import PARTS
from app.figures import style
from app.theme import theme

CHARTS = sorted([*(PARTS / "inspector").glob("*.js"), *(PARTS / "doing").glob("*.js")])
CORE = (PARTS / "inspector" / "core.js").read_text(encoding="utf-8")
COLOURS = dict(re.findall(r"'?([\w+]+)'?: '(#[0-9A-F]{6})'", CORE.split("const COLOUR =")[1].split("\n")[0]))
SEEN = float(re.search(r"const SEEN = ([\d.]+);", CORE)[1])
LINES_ONLY = {"rho", "csb"}  # drawn as full lines and dots, never as what lets the page through


def pages():
    """The colours behind the charts, as the theme has them."""
    css = theme()._get_theme_css()
    root, dark = css.split(".dark", 1)
    return [_resolved(root, css), _resolved(dark, css)]


def _resolved(part, css, name="block-background-fill"):
    value = re.search(rf"--{name}: ([^;]+);", part)[1]
    while value.startswith("var("):
        inner = value[6:-1]
        value = (re.search(rf"--{inner}: ([^;]+);", part) or re.search(rf"--{inner}: ([^;]+);", css))[1]
    return {"white": "#ffffff"}.get(value, value)


def parts(colour):
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def contrast(colour, page, opacity=1.0):
    """WCAG's contrast of a colour, let through to `opacity`, to what is behind it."""

    def light(channels):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (c / 255 for c in channels)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05

    over = [opacity * c + (1 - opacity) * b for c, b in zip(parts(colour), parts(page), strict=True)]
    low, high = sorted((light(over), light(parts(page))))
    return high / low


def test_contrast_is_what_it_is_defined_to_be():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#000000", "#ffffff", 0) == pytest.approx(1)
    assert pages()[0] == "#ffffff" and contrast("#ffffff", pages()[1]) > 10


@pytest.mark.parametrize("page", pages(), ids=["light", "dark"])
def test_every_colour_stands_out(page):
    assert {"activation", "weight", "balanced", "rho", "none"} <= COLOURS.keys()
    for name, colour in COLOURS.items():
        assert contrast(colour, page) >= 3, name
        assert name in LINES_ONLY or contrast(colour, page, SEEN) >= 3, name
    for name in ("ACTIVATION", "WEIGHT", "BALANCED", "SPEARMAN", "NEUTRAL"):
        assert contrast(getattr(style, name), page) >= 3, name


@pytest.mark.parametrize("chart", CHARTS, ids=lambda path: path.stem)
def test_what_lets_the_page_through_is_seen_or_has_a_full_line_around_it(chart: Path):
    for mark in re.findall(r"<(?:path|rect|circle)\b.*?/>", chart.read_text(encoding="utf-8")):
        thin = [value for value in re.findall(r'-opacity="([^"]*)"', mark) if value != "${SEEN}"]
        assert not thin or ('stroke="${' in mark and "stroke-opacity" not in mark), mark
