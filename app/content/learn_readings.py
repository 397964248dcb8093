"""What the Learn tab says with the reader's own numbers: one formula and one sentence a lesson."""

from __future__ import annotations

import numpy as np

LIVELY = 1.25  # largest over smallest eta from which it is not called small


def rounding_formula(
    bits: int,
    low: float,
    high: float,
    scale: float,
    zero_point: int,
    value: float,
    integer: int,
    rounded: float,
    stretch: float = 1.0,
    shift: int = 0,
) -> str:
    """PTQ4DiT eq. 2 for one value, in LaTeX; with what the reader has done to scale and zero point."""
    most = 2**bits - 1
    times = "" if stretch == 1 else rf" \cdot {stretch:g}"
    added = "" if shift == 0 else f" {shift:+d}"
    return _aligned(
        rf"s &= (x_\text{{max}} - x_\text{{min}}) / (2^b - 1){times}",
        rf"&= ({high:g} + {-low:g}) / {most}{times} = \mathbf{{{scale:.3g}}}",
        rf"z &= \text{{round}}(-x_\text{{min}} / s){added}",
        rf"&= \text{{round}}({-low / scale:.2f}){added} = \mathbf{{{zero_point}}}",
        rf"q &= \text{{clamp}}(\text{{round}}(x / s) + z,\, 0,\, {most})",
        rf"&= \text{{round}}({value:g} / {scale:.3g}) + {zero_point} = \mathbf{{{integer}}}",
        rf"\tilde x &= s\,(q - z) = {scale:.3g} \cdot {integer - zero_point} = \mathbf{{{rounded:.3g}}}",
    )


def rounding_reading(bits: int, scale: float, value: float, rounded: float, mean_error: float, clipped: int = 0) -> str:
    """What the grid does to the followed value and to all."""
    beyond = "" if not clipped else f" **{clipped} of them** lie beyond the grid and go to its end."
    return (
        f"With **{bits} bits** there are **{2**bits}** levels, **{scale:.3g}** apart: {value:g} becomes "
        f"**{rounded:.3g}**, and the values are off by {mean_error:.2g} on average.{beyond}"
    )


def outlier_formula(size: float, low: float, scale: float) -> str:
    """The step of the grid that the outlier stretches, in LaTeX."""
    return _aligned(
        r"s &= (x_\text{max} - x_\text{min}) / (2^4 - 1)", rf"&= ({size:g} + {-low:g}) / 15 = \mathbf{{{scale:.3g}}}"
    )


def outlier_reading(size: float, scale: float, levels: int, error: float) -> str:
    """What is left for the ordinary values."""
    left = "one level is" if levels == 1 else f"{levels} levels are"
    return (
        f"With an outlier of **{size:g}** the levels lie **{scale:.2g}** apart: **{left}** used by the 25 "
        f"ordinary values, which are off by **{100 * error:.0f}%** (root mean square)."
    )


def salience_formula(channel: int, activation: float, weight: float) -> str:
    """PTQ4DiT eq. 4 for the most salient activation channel, in LaTeX."""
    return _aligned(
        rf"s(X_{{{channel}}}) &= \mathbf{{{activation:.3g}}}", rf"s(W_{{{channel}}}) &= \mathbf{{{weight:.3g}}}"
    )


def salience_reading(layer: str, both: int, top: int, channels: int, timestep: float, strength: int) -> str:
    """How many of the most salient channels coincide, and how many would by chance."""
    dial = f", salience x {strength}, function unchanged" if strength > 1 else ""
    verb = "is" if both == 1 else "are"
    return (
        f"In {layer}{dial}, timestep {timestep:g}: of the {top} most salient activation channels **{both}** {verb} "
        f"also among the {top} most salient weight channels. If the two were unrelated, {top * top / channels:.1f} "
        "would be, on average."
    )


def balance_formula(channel: int, activation: float, weight: float, factor: float) -> str:
    """PTQ4DiT eqs. 5 and 6 for one channel, in LaTeX."""
    named = f"{{{channel}}}"
    return _aligned(
        rf"\tilde s_{named} &= \sqrt{{s(X_{named})\, s(W_{named})}}",
        rf"&= \sqrt{{{activation:.3g} \cdot {weight:.3g}}} = \mathbf{{{np.sqrt(activation * weight):.3g}}}",
        rf"b_{named} &= \tilde s_{named} \,/\, s(X_{named}) = \mathbf{{{factor:.3g}}}",
        r"\tilde X \tilde W &= X \text{diag}(b)\,\text{diag}(b)^{-1} W",
        r"&= X W",
    )


def balance_reading(
    amount: float, channel: int, activation: float, weight: float, difference: float, rows: int, note: str
) -> str:
    """Where the most salient channel stands, and how little the product has changed."""
    where = {0.0: "As calibrated", 1.0: "Balanced"}.get(amount, f"{100 * amount:.0f}% of the way")
    if amount == 0:
        product = "Move on, and watch the product $XW$."
    else:
        product = f"The product, measured on {rows} stored rows, has changed by **{_power(difference)}** of its size"
        product += ": the rounding of 32-bit floats, no more." if difference < 1e-5 else "."
    text = (
        f"**{where}**, channel {channel} has salience **{activation:.3g}** in the activation and **{weight:.3g}** in "
        f"the weight. {product}"
    )
    return f"{text} {note}".strip()


def timestep_formula(timestep: float, rho: float, weight: float, total: float) -> str:
    """PTQ4DiT eqs. 10 and 11 at one timestep, in LaTeX."""
    return _aligned(
        rf"\eta_{{{timestep:g}}} &= e^{{-\rho}} \,/\, \textstyle\sum_t e^{{-\rho_t}}",
        rf"&= e^{{{_signed(-rho)}}} / {total:.1f} = \mathbf{{{weight:.4f}}}",
        r"s_\rho(X) &= \textstyle\sum_t \eta_t \, s(X[t])",
    )


def timestep_reading(timestep: float, rho: float, weight: float, count: int, channel: int, misfit: float) -> str:
    """What the timestep counts, and how far its own balance would be from the common one."""
    share = weight * count
    compared = "as much as" if 0.995 <= share <= 1.005 else f"{share:.2f} times as much as"
    return (
        f"At timestep **{timestep:g}** ρ is **{_signed(rho)}**, so it counts **{compared}** an equal share. A factor "
        f"made for this timestep alone would differ from the common one by up to {misfit:.1f}x (channel {channel})."
    )


def timestep_effect(ratio: float, layer: str, best: float, name: str) -> str:
    """How much SSC's weights differ in this layer; where they hardly do, which layer moves most."""
    told = f"Over all timesteps η varies **{ratio:.2f}-fold** in {layer}"
    if ratio >= LIVELY:
        return f"{told}."
    where = f"it moves most in [{name}](#layer={name}), {best:.2f}-fold" if name != layer else "no layer moves more"
    return f"{told}: **the effect is small here**; {where}."


def _aligned(*lines: str) -> str:
    """Lines of LaTeX, aligned at their `&`, as a formula of its own."""
    return r"$$\begin{aligned}" + r" \\[4pt] ".join(lines) + r"\end{aligned}$$"


def _signed(value: float) -> str:
    """A number with two decimals, never a negative zero."""
    return f"{round(float(value), 2) + 0.0:.2f}"


def _power(value: float) -> str:
    """A small number as 2 x 10^-7, in LaTeX."""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.0e}".split("e")
    return rf"${mantissa} \cdot 10^{{{int(exponent)}}}$"


def pictures_formula(psnr: float) -> str:
    """PSNR of a picture with values in 0..1 from its mean squared error, in LaTeX."""
    return _aligned(
        r"\text{PSNR} &= 10 \log_{10} (1 / \text{MSE})",
        rf"&= 10 \log_{{10}} (1 / {10 ** (-psnr / 10):.5f}) = \mathbf{{{psnr:.1f}}}\ \text{{dB}}",
    )


def pictures_answer(plain: float, balanced: float, pictures: int, setting: str) -> str:
    """What balancing did to the stored pictures on average."""
    return (
        f"At {setting} the mean PSNR of {pictures} pictures is {plain:.1f} dB without balancing and {balanced:.1f} dB "
        "with CSB and SSC (simulated). Balancing pays where channels are salient: turn the salience dial in the bar."
    )


def why_reading(model: str, float_: tuple[str, float], fastest: tuple[str, float], integer: tuple[str, float]) -> str:
    """What quantizing saves on this very model: name and milliseconds of a pass, in floats, at best, by integers."""
    best, quick = fastest[1], integer[1]
    verdict = "as fast as" if 0.95 <= quick / best <= 1.05 else "faster than" if quick < best else "slower than"
    return (
        f"**Measured on {model}**: one pass takes {float_[1]:.1f} ms by {float_[0]}, {best:.1f} ms by the fastest "
        f"float ({fastest[0]}), and **{quick:.1f} ms** on integers ({integer[0]}), {verdict} the fastest float."
    )
