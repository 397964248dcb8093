"""Plates on paper: serif type, closed frames, ticks inside, as wide as a page's text; by matplotlib, without pyplot."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from app.figures.paper.plate import Plate

Kind = Literal["png", "svg", "pdf"]
TEXT_WIDTH = 5.5  # inches
FONT = "STIXGeneral"  # Times as matplotlib brings it: the same on every machine
TICKS, WORDS = 7.0, 8.0  # points, at most
DOTS = 300  # an inch, where there are dots


def printed_plates(plates: Sequence[Plate], caption: str) -> Figure:
    """The plates below each other, and beneath them in small print of what they are."""
    sheet = Figure(figsize=(TEXT_WIDTH, sum(plate.height for plate in plates) + 0.3), layout="constrained")
    heights = [plate.height for plate in plates]
    for place, plate in zip(
        sheet.subfigures(len(plates), 1, squeeze=False, height_ratios=heights)[:, 0], plates, strict=True
    ):
        plate.draw(place)
    sheet.supxlabel(caption, fontsize=6, wrap=True)
    _dress(sheet)
    return sheet


def plates_file(plates: Sequence[Plate], kind: Kind, caption: str) -> bytes:
    """The same as a file's bytes; a PDF keeps its letters as letters."""
    buffer = io.BytesIO()
    with rc_context({"pdf.fonttype": 42}):
        printed_plates(plates, caption).savefig(buffer, format=kind, dpi=DOTS)
    return buffer.getvalue()


def _dress(sheet: Figure) -> None:
    """The paper's look, set on what is drawn and not in matplotlib's settings, which other threads draw by."""
    for axes in sheet.findobj(Axes):
        assert isinstance(axes, Axes)
        axes.tick_params(direction="in", top=True, right=True, width=0.5, labelfontfamily=FONT)
        for one in (axes.xaxis, axes.yaxis):
            one.set_tick_params(labelsize=min([TICKS, *(label.get_fontsize() for label in one.get_ticklabels())]))
    for text in sheet.findobj(Text):
        assert isinstance(text, Text)
        text.set(fontfamily=FONT, math_fontfamily="stix", fontsize=min(WORDS, text.get_fontsize()))
