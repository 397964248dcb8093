"""Which variants Compare holds against full precision: as the bar has them, as the line-up does, as a link says."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.balancing import SWITCHES
from app.components.chart import shown
from app.services.request import DEFAULT_BITS, FLOAT_BITS, MOST_VARIANTS, SAMPLERS, parse_variants
from app.state import Selection
from app.tabs import compare_view as view

LINE_UPS = ("bits", "balancing", "both", "scales")
RUN_BY = ("auto", "simulated")
SCALES = ("token", "tensor")
LONGEST_LINK = 300  # characters of variants


def line_up(by: str, bits: list[str], *values: Any) -> list[str]:
    """The variants to compare: different bits, the bar's among them; the bar's, balanced in each way; or both.

    Or with one scale for all tokens and one for each, without balancing and with.
    """
    selection = Selection.from_controls(*values)
    named = f"W{selection.weight_bits}A{selection.activation_bits}"
    balanced = [f"{named} {balancing}" for balancing in SWITCHES]
    if by == "balancing":
        return balanced
    if by == "scales":
        return [f"{named} {way} {scales}" for scales in ("tensor", "token") for way in ("none", "csb+ssc")]
    plain = [name for name in bits if " " not in name] or list(DEFAULT_BITS)
    if by == "both":
        return [*(name for name in plain if name != named), *balanced][-MOST_VARIANTS:]
    if named in plain or selection.weight_bits == selection.activation_bits == FLOAT_BITS:
        return plain
    return [*plain[:-1], named]


def take_up(by: str, bits: list[str], taken: str, link: dict[str, str] | None, *values: Any) -> list[Any]:
    """Line-up, variants, sampler, backend, what they were made for, and the chart's frame.

    The variants are lined up anew where the way or the bar's bits are others than those they were `taken` for. When the
    tab opens there are none yet: then all is as the page's link has it, and what makes no sense there is left alone;
    before the page has said what that is nothing is lined up.
    """
    if link is None:
        return [gr.skip()] * 6
    selection, said = Selection.from_controls(*values), {} if taken else from_link(link)
    by = said.get("line_up", by)
    now = f"{by} W{selection.weight_bits}A{selection.activation_bits}"
    if now == taken:
        return [gr.skip()] * 6
    variants = said.get("variants") or line_up(by, bits, *values)
    chart = gr.skip() if taken else shown(view.empty_chart(selection.steps))
    others = [said.get(name, gr.skip()) for name in ("sampler", "backend")]
    return [said.get("line_up", gr.skip()), variants, *others, now, chart]


def from_link(link: Any) -> dict[str, Any]:
    """What a link says of the tab's own controls, as they take it; of what makes no sense nothing."""
    offered = {"line_up": LINE_UPS, "sampler": SAMPLERS, "backend": RUN_BY}
    said = link if isinstance(link, dict) else {}
    known: dict[str, Any] = {name: said[name] for name, few in offered.items() if said.get(name) in few}
    try:
        variants = str(said["variants"])[:LONGEST_LINK].split(",")
        parse_variants(variants, csb=True, ssc=True)
        return known | {"variants": variants}
    except (KeyError, ValueError):
        return known


def own(bits: list[str], backend: str, selection: Selection) -> dict[str, Any]:
    """What the tab says of a comparison, and of the bar's switches those that a variant leaves to them."""
    named = [set(name.lower().split()) for name in bits]
    left = {"csb": SWITCHES, "ssc": SWITCHES, "tokens": SCALES}
    followed = {name: getattr(selection, name) for name in left if any(not ways & set(left[name]) for ways in named)}
    return {"variants": ",".join(bits), "backend": backend, **followed}
