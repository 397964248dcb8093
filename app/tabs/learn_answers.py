"""What Learn answers to a prediction, lesson by lesson, with the numbers on show."""

from __future__ import annotations

from typing import Any

from app.components.messages import explained
from app.content import learn_readings as say
from app.content.lessons import lesson
from app.services import learning
from app.services.stored import Choice, load_results
from app.state import Selection
from app.tabs import start_view

MOST, ABOUT_HALF = 0.7, 0.3  # shares of the layers
RIGHT, WRONG = "<span class='mark right'>Right.</span>", "<span class='mark wrong'>Not quite:</span>"
NOTICEABLE = 0.3  # dB; less counts as next to nothing


def reveal_rounding(picked: int | None, bits: int) -> str:
    """The answer of the first lesson, with the numbers of the reader's grid."""
    more = 8 if bits == 8 else bits + 1
    one, two = (learning.round_to_grid(learning.VALUES, b).scale for b in (more - 1, more))
    return verdict(
        "rounding",
        picked,
        f"Twice as many levels share the same range: the scale goes from {one:.3g} at {more - 1} bits to {two:.3g} at "
        f"{more}.",
    )


def reveal_outlier(picked: int | None) -> str:
    """The answer of the second lesson."""
    line = learning.with_outlier(10)
    used, error = learning.ordinary_levels(line), learning.ordinary_error(line)
    return verdict(
        "outlier",
        picked,
        f"{used} levels of 16 do all the work of the 25 ordinary values, whose error is {100 * error:.0f}%; without "
        f"an outlier it is {100 * learning.ordinary_error(learning.with_outlier(1)):.0f}%.",
    )


def reveal_salience(picked: int | None, model: str, strength: int) -> str:
    """The answer of the third lesson, counted over all layers of the model."""
    with explained():
        counts = learning.coinciding_by_layer(model, strength)
    few = sum(count < 3 for count in counts.values())
    share = few / len(counts)
    right = 2 if share > MOST else 1 if share > ABOUT_HALF else 0
    worst = max(counts, key=lambda name: counts[name])
    return verdict(
        "salience",
        picked,
        f"In **{few} of {len(counts)}** layers. The most coincide in {worst}: {counts[worst]} of {learning.TOP}.",
        right,
    )


def reveal_balance(picked: int | None, model: str, layer: str, strength: int) -> str:
    """The answer of the fourth lesson, with the layer's most salient channel."""
    with explained():
        start, end = (learning.balance(model, layer, strength, amount) for amount in (0.0, 1.0))
    top = int(start.activation.argmax())
    return verdict(
        "balance",
        picked,
        f"What the one loses the other gains, or the product would change. Here channel {top} gets "
        f"{start.activation[top] / end.activation[top]:.3g} times smaller in the activation and "
        f"{end.weight[top] / start.weight[top]:.3g} times larger in the weight.",
    )


def reveal_timesteps(picked: int | None, model: str, layer: str, strength: int) -> str:
    """The answer of the fifth lesson, with the layer's own extremes."""
    with explained():
        view = learning.layer(model, layer, strength)
    low, high = int(view.rho.argmin()), int(view.rho.argmax())
    return verdict(
        "timesteps",
        picked,
        "Low ρ is complementary, and there balancing helps most. In this layer timestep "
        f"{view.timesteps[low]:g} counts {view.weights[low] / view.weights[high]:.2f} times as much as timestep "
        f"{view.timesteps[high]:g}.",
    )


def reveal_pictures(picked: int | None, *values: Any) -> str:
    """The answer of the sixth lesson, from the stored means at the nearest bits and dial."""
    with explained():
        selection = Selection.from_controls(*values)
        results = load_results(selection.model)
        choice = start_view.nearest(results, selection)
        plain, balanced = (
            results.mean(Choice(bits=choice.bits, strength=choice.strength, csb=on, ssc=on)) for on in (False, True)
        )
    gain = balanced.psnr - plain.psnr
    right = 0 if gain > NOTICEABLE else 2 if gain < -NOTICEABLE else 1
    setting = f"{choice.bits}, {'salience as trained' if choice.strength == 1 else f'salience x {choice.strength}'}"
    return verdict("pictures", picked, say.pictures_answer(plain.psnr, balanced.psnr, plain.pictures, setting), right)


def verdict(key: str, picked: int | None, because: str, right: int | None = None) -> str:
    """How the prediction did, and why; asks for one where there is none."""
    asked = lesson(key)
    right = asked.right if right is None else right
    if picked is None or right is None:
        return "Predict first: choose an answer above."
    if picked == right:
        return f"{RIGHT} {because}"
    return f"{WRONG} **{asked.answers[right]}**. {because}"
