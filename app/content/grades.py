"""How far a picture is from full precision in words, with the dB behind them: one scale for the whole app."""

from __future__ import annotations

from dataclasses import dataclass

BROKEN, HARD = 22.0, 34.0
"""dB of PSNR: below the first a picture has lost something, from the second on it takes both side by side to tell."""
JUST_NOTICEABLE = 0.05
"""dB; less is called no change."""


@dataclass(frozen=True)
class Grade:
    """A word and its key, by which a page colours it."""

    key: str
    word: str


_BROKEN, _VISIBLE, _HARD = Grade("broken", "broken"), Grade("visible", "visible"), Grade("hard", "hard to tell")


def grade(psnr: float) -> Grade:
    """What a PSNR in dB looks like: "broken", "visible" or "hard to tell"."""
    return _BROKEN if psnr < BROKEN else _VISIBLE if psnr < HARD else _HARD


def sign(psnr: float, plain: float) -> str:
    """Whether balancing pays, from the PSNR in dB with and without it: "gains", "loses" or "same"."""
    gain = psnr - plain
    return "same" if abs(gain) < JUST_NOTICEABLE else "gains" if gain > 0 else "loses"


def graded(psnr: float) -> str:
    """A PSNR with its word: "24.8 dB, visible"."""
    return f"{psnr:.1f} dB, {grade(psnr).word}"


def scale() -> str:
    """Where one word ends and the next begins."""
    return f"broken below {BROKEN:g} dB, hard to tell from {HARD:g} dB on, visible between"
