"""What the Start tab says and shows: stored results in, values of its parts out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from app.services.stored import VARIANTS, Choice, StoredResults
from app.state import Selection

NAMES = {"none": "no balancing", "csb": "CSB", "csb+ssc": "CSB + SSC"}
WIDEST = 50.0  # dB at which a bar is full
JUST_NOTICEABLE = 0.05  # dB; less is called no change


def nearest(results: StoredResults, selection: Selection) -> Choice:
    """The stored choice that comes closest to a selection: the same switches, the nearest bits and dial."""

    def far(bits: str) -> int:
        weight, activation = (int(n) for n in bits.removeprefix("W").split("A"))
        return 10 * abs(weight - selection.weight_bits) + abs(activation - selection.activation_bits)

    return Choice(
        bits=min(results.bits, key=far),
        strength=min(results.strengths, key=lambda n: abs(n - selection.strength)),
        csb=selection.csb,
        ssc=selection.ssc,
    )


def note(selection: Selection, choice: Choice) -> str:
    """Says so where the stored choice is not what the selection asks for; empty where it is."""
    wanted = f"W{selection.weight_bits}A{selection.activation_bits}, salience x {selection.strength}"
    shown = f"{choice.bits}, salience x {choice.strength}"
    return "" if wanted == shown else f"{wanted} is not stored, so this shows {shown}. Compare makes any setting live."


def matching_example(results: StoredResults, selection: Selection, index: int) -> int:
    """The example of the selection's class and seed; `index` where there is none."""
    wanted = (selection.class_id, selection.seed)
    return next((i for i, e in enumerate(results.examples) if (e.class_id, e.seed) == wanted), index)


def shared_values(choice: Choice) -> list[Any]:
    """The shared controls' values for a choice: csb, ssc, strength, weight_bits, activation_bits."""
    weight, activation = (int(n) for n in choice.bits.removeprefix("W").split("A"))
    return [choice.csb, choice.ssc, choice.strength, weight, activation]


def views(results: StoredResults, index: int, choice: Choice, remark: str = "") -> list[dict[str, Any]]:
    """The values of the two parts that show a choice: the wipe and the verdict."""
    return [wipe(results, index, choice), verdict(results, index, choice, remark)]


def wipe(results: StoredResults, index: int, choice: Choice) -> dict[str, Any]:
    """Full precision left, quantized right."""
    example = results.example(index)
    name = f"{choice.bits}, {NAMES[choice.variant]}"
    return {
        "left": {
            "src": example.full_precision.data_uri,
            "name": "FP32",
            "alt": f"{example.class_name}, drawn by the full-precision model",
        },
        "right": {
            "src": results.picture(index, choice).data_uri,
            "name": name,
            "alt": f"The same {example.class_name}, drawn by the model quantized to {name}, simulated",
        },
    }


def filmstrip(results: StoredResults, index: int) -> dict[str, Any]:
    """The examples as small pictures, one of them chosen."""
    items = [
        {"src": e.full_precision.data_uri, "title": e.title, "chosen": str(i == index).lower()}
        for i, e in enumerate(results.examples)
    ]
    return {"label": "Examples", "items": items, "chosen": index}


def verdict(results: StoredResults, index: int, choice: Choice, remark: str = "") -> dict[str, Any]:
    """One measured number, one sentence, and the means of the three variants at these bits and this dial."""
    means = {name: results.mean(_variant(choice, name)) for name in VARIANTS}
    return {
        "number": f"{results.picture(index, choice).psnr:.1f} dB",
        "unit": "PSNR of this picture against full precision, simulated; higher is closer",
        "sentence": sentence(results, index, choice),
        "caption": f"Mean of {means['none'].pictures} pictures at {choice.bits}, {_dial(choice)}",
        "rows": [
            {
                "name": NAMES[name],
                "psnr": f"{mean.psnr:.1f}",
                "width": f"{100 * min(1.0, mean.psnr / WIDEST):.1f}",
                "state": "chosen" if name == choice.variant else "other",
            }
            for name, mean in means.items()
        ],
        "note": remark,
    }


def sentence(results: StoredResults, index: int, choice: Choice) -> str:
    """What the switches change in this picture, in words that the numbers bear out."""
    plain = _psnr(results, index, _variant(choice, "none"))
    if choice.variant == "none":
        best = _psnr(results, index, _variant(choice, "csb+ssc"))
        return f"Rounded to {choice.bits} as it is. With CSB and SSC it would be {_compare(best, plain)}."
    here = _psnr(results, index, choice)
    return f"With {NAMES[choice.variant].replace('+', 'and')} it is {_compare(here, plain)}."


def _compare(balanced: float, plain: float) -> str:
    gain = balanced - plain
    if abs(gain) < JUST_NOTICEABLE:
        return f"as far from full precision as without balancing, {plain:.1f} dB"
    where = "closer to" if gain > 0 else "further from"
    return f"{abs(gain):.1f} dB {where} full precision: {balanced:.1f} dB instead of {plain:.1f}"


def _psnr(results: StoredResults, index: int, choice: Choice) -> float:
    return results.picture(index, choice).psnr or 0.0


def _variant(choice: Choice, name: str) -> Choice:
    return replace(choice, csb=name != "none", ssc=name == "csb+ssc")


def _dial(choice: Choice) -> str:
    return "as trained" if choice.strength == 1 else f"salience x {choice.strength}, function unchanged"
