"""What Learn draws, lesson by lesson."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.components.chart import shown
from app.components.messages import explained
from app.content import learn_readings as say
from app.content.grades import grade, scale
from app.figures.learn.balance import balance_figure
from app.figures.learn.outlier import outlier_figure
from app.figures.learn.rounding import rounding_figure
from app.figures.learn.salience import salience_figure
from app.figures.learn.timesteps import timestep_figure
from app.services import learning
from app.services.stored import Choice, load_results
from app.services.stored_speed import load_speed
from app.state import NO_CHANNEL, Selection, within
from app.tabs import ladder, start_view


def draw_rounding(bits: int, stretch: float = 1.0, shift: int = 0) -> list[Any]:
    """Number line, formula and reading of the first lesson; stretch and shift: of the fitted scale and zero point."""
    line = learning.round_to_grid(learning.VALUES, bits, stretch, shift)
    i = learning.FOLLOWED
    value, rounded = float(line.values[i]), float(line.rounded[i])
    ends = float(line.values.min()), float(line.values.max())
    error = float(np.abs(line.rounded - line.values).mean())
    return [
        shown(rounding_figure(line.values, line.rounded, line.levels, line.zero_point, i)),
        say.rounding_formula(
            bits, *ends, line.scale, line.zero_point, value, int(line.integers[i]), rounded, stretch, int(shift)
        ),
        say.rounding_reading(bits, line.scale, value, rounded, error, learning.clipped(line)),
    ]


def draw_outlier(size: float) -> list[Any]:
    """Number line with the curve beneath, formula and reading of the second lesson."""
    line = learning.with_outlier(size)
    sizes, errors = learning.outlier_curve()
    at = int(np.abs(sizes - size).argmin())
    low = float(line.values.min())
    used, error = learning.ordinary_levels(line), learning.ordinary_error(line)
    return [
        shown(outlier_figure(line.values, line.rounded, line.levels, sizes, errors, at)),
        say.outlier_formula(size, low, line.scale),
        say.outlier_reading(size, line.scale, used, error),
    ]


def draw_salience(model: str, layer: str, strength: int, channel: int = NO_CHANNEL) -> list[Any]:
    """Mirrored bars, formula and reading of the third lesson."""
    with explained():
        view = learning.layer(model, layer, strength)
    at = learning.middle(view)
    activation, weight = view.activation[at], view.weight
    tops = learning.top_channels(activation), learning.top_channels(weight)
    both = learning.coinciding(activation, weight)
    top = _followed(channel, activation)
    timestep = view.timesteps[at].item()
    return [
        shown(salience_figure(activation, weight, set(tops[0].tolist()), set(tops[1].tolist()), both)),
        say.salience_formula(top, float(activation[top]), float(weight[top])),
        say.salience_reading(layer, len(both), learning.TOP, len(weight), timestep, strength),
    ]


def draw_balance(model: str, layer: str, strength: int, percent: float, channel: int = NO_CHANNEL) -> list[Any]:
    """Both saliences on their way to the middle, formula and reading of the fourth lesson."""
    with explained():
        start = learning.balance(model, layer, strength, 0.0)
        now = learning.balance(model, layer, strength, percent / 100)
        note = learning.note(model, layer)
    top = _followed(channel, start.activation)
    ends = np.concatenate([start.activation, start.weight])
    span = float(np.maximum(ends, 1e-6).min()), float(ends.max())
    place = float(now.activation[top]), float(now.weight[top])
    return [
        shown(balance_figure(now.activation, now.weight, now.middle, span)),
        say.balance_formula(top, float(start.activation[top]), float(start.weight[top]), float(now.factors[top])),
        say.balance_reading(now.amount, top, *place, now.difference, now.rows, note),
    ]


def draw_timesteps(model: str, layer: str, strength: int, timestep: int) -> list[Any]:
    """Salience, rho and weights at one timestep, formula and reading of the fifth lesson."""
    with explained():
        view = learning.layer(model, layer, strength)
        liveliest, most = learning.liveliest(model, strength)
    at = view.nearest(timestep)
    now, rho, weight = view.timesteps[at].item(), float(view.rho[at]), float(view.weights[at])
    figure = timestep_figure(
        salience=view.activation[at],
        average=learning.calibrated(view),
        highest=float(view.activation.max()),
        timesteps=view.timesteps,
        rho=view.rho,
        weights=view.weights,
        at=at,
    )
    return [
        shown(figure),
        say.timestep_formula(now, rho, weight, float(np.exp(-view.rho).sum())),
        say.timestep_reading(now, rho, weight, len(view.timesteps), *learning.misfit(view, at))
        + " "
        + say.timestep_effect(learning.spread(view.weights), layer, most, liveliest),
    ]


def follow_rounding(bits: int, stretch: float, shift: int, *_values: Any) -> list[Any]:
    """What the first lesson draws, whatever is selected."""
    return draw_rounding(bits, stretch, shift)


def follow_outlier(size: float, *_values: Any) -> list[Any]:
    """What the second lesson draws, whatever is selected."""
    return draw_outlier(size)


def follow_salience(*values: Any) -> list[Any]:
    """What the third lesson draws for a selection; values: its fields, here and below."""
    selection = Selection.from_controls(*values)
    return draw_salience(selection.model, selection.layer, selection.strength, selection.channel)


def follow_balance(percent: float, *values: Any) -> list[Any]:
    """What the fourth lesson draws for a selection, balanced so far."""
    selection = Selection.from_controls(*values)
    return draw_balance(selection.model, selection.layer, selection.strength, percent, selection.channel)


def follow_timesteps(*values: Any) -> list[Any]:
    """What the fifth lesson draws for a selection."""
    selection = Selection.from_controls(*values)
    return draw_timesteps(selection.model, selection.layer, selection.strength, selection.timestep)


def _followed(channel: int, activation: np.ndarray) -> int:
    """The channel that the formulas write out: the pinned one, else the most salient activation."""
    return channel if 0 <= channel < len(activation) else int(activation.argmax())


def drag_outlier(part: dict[str, Any] | None) -> list[Any]:
    """The outlier was dragged: where the slider stands, then its lesson."""
    with explained():
        size = within("size", (part or {}).get("size"), 1.0, float(learning.LARGEST_OUTLIER))
    return [size, *draw_outlier(size)]


def draw_pictures(*values: Any) -> list[Any]:
    """Both pictures, formula, reading and what dB look like, of the sixth lesson; values: those of the selection."""
    with explained():
        selection = Selection.from_controls(*values)
        results = load_results(selection.model)
        choice = start_view.nearest(results, selection)
        index = start_view.matching_example(results, selection, 0)
        psnr = results.picture(index, choice).psnr or 0.0
        told = [start_view.sentence(results, index, choice), start_view.remark(selection, choice)]
    return [
        start_view.wipe(results, index, choice),
        say.pictures_formula(psnr),
        f"**{grade(psnr).word}, {psnr:.1f} dB** (simulated; {scale()}). {' '.join(told).strip()}",
        {"grade": grade(psnr).key, "ladder": ladder.rungs(results)},
    ]


def draw_why(*values: Any) -> str:
    """What quantizing saves on the open model, as it was measured; empty where it was not."""
    model = Selection.from_controls(*values).model
    try:
        timings, _ = load_speed(model)
    except ValueError:
        return ""
    floats = [(one.name, one.milliseconds or 0.0) for one in timings if one.execution == "float"]
    integers = [(one.name, one.milliseconds or 0.0) for one in timings if one.execution == "integer"]
    usual = [one for one in floats if "torch" in one[0] and "eager" in one[0] and "32" in one[0]]
    return say.why_reading(model, usual[0], floats[0], integers[0]) if usual and integers else ""


def follow_pictures(*values: Any) -> list[Any]:
    """The lesson's switch as the shared ones stand, then the lesson."""
    selection = Selection.from_controls(*values)
    return [Choice(csb=selection.csb, ssc=selection.ssc).variant, *draw_pictures(*values)]
