"""What the card "one channel's doing" shows: frames in, plain values for its script out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from app.balancing import TOKENS
from app.figures.difference import difference_map
from app.figures.picture import data_uri
from app.services.doing import KEPT, STEPS, Drawn, Frame, Question
from app.services.sites import site
from app.services.takes import EVERY
from app.tabs.compare_view import drawn as subject

GAIN = 8.0  # of the difference maps
WIDE = 256  # pixels that a small picture is enlarged to
SHOWN = ("float", "rounded", "spared", "balanced", "scaled")


def told(frame: Frame, ticket: int) -> dict[str, Any]:
    """All that is drawn so far. `ticket` is the number under which the browser asked."""
    return {
        "ticket": ticket,
        "note": frame.note,
        "percent": round(100 * frame.done / frame.total) if frame.total else 0,
        "going": not frame.finished,
        "cards": [_card(frame, name) for name in SHOWN if name in frame.drawn],
        "verdict": verdict(frame),
        "curve": _curve(frame),
    }


def ended(ticket: int, note: str) -> dict[str, Any]:
    """Nothing is drawn, or no more; why."""
    return {"ticket": ticket, "note": note, "percent": 0, "going": False, "problem": note}


def _card(frame: Frame, name: str) -> dict[str, Any]:
    """A picture with its name, its distance to full precision, and where it is off."""
    title, detail = _named(frame.question, name)
    one, pixels = frame.drawn[name], _pixels(frame.drawn[name])
    what = f"{subject(one.take.request)}, seed {one.take.request.seed}: {title}"
    card = {"name": name, "title": title, "detail": detail, "src": _address(pixels), "alt": what, "db": ""}
    if name == "float":
        return card
    off = difference_map(pixels, _pixels(frame.drawn["float"]), GAIN)
    where = {"difference": data_uri(off, enlarge=1), "difference_alt": f"Where it is off, times {GAIN:g}"}
    return card | where | {"db": decibels(one.psnr[0])}


def _named(question: Question, name: str) -> tuple[str, str]:
    """A picture's name, and what was changed for it."""
    chosen = question.selection
    bits = f"W{chosen.weight_bits}A{chosen.activation_bits}{TOKENS[chosen.tokens]}"
    channel = chosen.channel
    alone = "this layer alone" if name != "scaled" else f"{chosen.layer} in full precision"
    times = "taken out" if question.gain == 0 else f"times {question.gain:g}"
    titles = {
        "float": ("Full precision", "nothing rounded"),
        "rounded": ("Layer rounded", f"{bits}, {alone}"),
        "spared": (f"Channel {channel} in float", f"{bits}, {alone}, all its other channels"),
        "balanced": ("Balanced", f"{bits}, {alone}, CSB + SSC"),
        "scaled": (f"Channel {channel} {times}", alone),
    }
    return titles[name]


def verdict(frame: Frame) -> str:
    """How much of the damage is the channel's, in words; nothing before both pictures are there."""
    if not {"rounded", "spared"} <= frame.drawn.keys():
        return "" if "float" not in frame.drawn or not frame.finished else _nothing_rounded(frame)
    chosen = frame.question.selection
    before, after = (frame.drawn[name].psnr[0] for name in ("rounded", "spared"))
    share = 1 - 10 ** ((before - after) / 10) if math.isfinite(after) else 1.0
    if not math.isfinite(before):
        said = "Rounding this layer changes nothing in this picture."
    elif share > 0.05:
        said = f"Channel {chosen.channel} alone makes **{100 * share:.0f} %** of the squared error in this picture."
    elif share < -0.05:
        said = (
            f"In this picture channel {chosen.channel} carries none of the damage: without its rounding it is larger."
        )
    else:
        said = f"Channel {chosen.channel} carries next to nothing of the damage in this picture."
    how = f"Rounding {chosen.layer} alone leaves {decibels(before)} dB, with channel {chosen.channel} in float "
    return f"{how}{decibels(after)} dB. {said}{_balanced(frame)}{_ablated(frame)}"


def _balanced(frame: Frame) -> str:
    """What balancing gets, or why there is nothing to balance."""
    chosen = frame.question.selection
    if "balanced" in frame.drawn:
        return f" Balanced, with none in float: {decibels(frame.drawn['balanced'].psnr[0])} dB."
    about = site(chosen.model, chosen.layer)
    return "" if about.balanced else f" Nothing balances this layer{f': {about.why}' if about.why else ''}."


def _ablated(frame: Frame) -> str:
    """What the picture is without the channel, or with more or less of it."""
    if "scaled" not in frame.drawn:
        return ""
    gain = frame.question.gain
    how = "Taken out of the model" if gain == 0 else f"Times {gain:g}, with nothing rounded,"
    return f" {how} it moves the picture to {decibels(frame.drawn['scaled'].psnr[0])} dB: so much hangs on it."


def _nothing_rounded(frame: Frame) -> str:
    return f"Weights and activations stay in float: choose fewer bits above to see what rounding does.{_ablated(frame)}"


def _curve(frame: Frame) -> dict[str, Any] | None:
    """The curve's points so far: k, mean PSNR, and the picture at it; the line of CSB + SSC."""
    points = [(count, frame.drawn[f"top/{count}"]) for count in KEPT if f"top/{count}" in frame.drawn]
    if "curve" not in frame.drawn:
        return None
    reference, line = frame.drawn["curve"], frame.drawn.get("line")
    take = reference.take
    return {
        "every": any(one.take.scope == EVERY for _, one in points),
        "pictures": take.pictures,
        "steps": STEPS,
        "line": None if line is None else _mean(line),
        "points": [
            {"kept": count, "db": _mean(one), "src": _address(_pixels(one)), "first": decibels(one.psnr[0])}
            for count, one in points
        ],
    }


def _mean(one: Drawn) -> float | None:
    """Mean PSNR over the pictures; None where one of them is equal to the last bit."""
    mean = sum(one.psnr) / len(one.psnr)
    return round(mean, 2) if math.isfinite(mean) else None


def decibels(psnr: float) -> str:
    """A PSNR as it is read."""
    return f"{psnr:.1f}" if math.isfinite(psnr) else "no difference at all, infinite"


def _pixels(one: Drawn) -> np.ndarray:
    """The first picture of a take, (height, width, 3)."""
    return np.asarray((one.pictures[0] * 255).round().byte().permute(1, 2, 0))


def _address(pixels: np.ndarray) -> str:
    return data_uri(pixels, enlarge=max(1, WIDE // pixels.shape[0]))
