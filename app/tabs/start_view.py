"""What the Start tab says and shows: stored results in, values of its parts out."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from app.balancing import NAMES, SWITCHES, TOKENS, WAYS
from app.content.grades import JUST_NOTICEABLE, grade, sign
from app.figures.picture import data_uri
from app.services.stored import Choice, Example, Picture, StoredResults
from app.state import BITS, STRENGTHS, Selection
from app.tabs import dial, ladder

BARS = 15.0, 45.0  # dB at which a bar is empty, and full: what a picture can look like lies between
_SIDE = {"src": "", "name": "", "alt": ""}
NOTHING: dict[str, Any] = {
    **{name: "" for name in ("word", "grade", "number", "unit", "sentence", "caption", "source", "remark", "problem")},
    **{"left": _SIDE, "right": _SIDE, "rows": [], "choices": [], "items": [], "label": "Examples", "chosen": 0},
    "ladder": ladder.NOTHING,
    "dial": dial.NOTHING,
    **{"csb": {"on": "false"}, "ssc": {"on": "false", "off": True}, "tokens": {"on": "false", "off": True}},
}
"""What Start shows where nothing is stored of a model."""


def nearest(results: StoredResults, selection: Selection) -> Choice:
    """The stored choice that comes closest to a selection: the same switches, the nearest bits and dial."""
    return Choice(
        bits=nearest_bits(results, selection.weight_bits, selection.activation_bits),
        strength=nearest_strength(results, selection.strength),
        csb=selection.csb,
        ssc=selection.ssc,
        tokens=selection.tokens and results.tokens,
    )


def nearest_bits(results: StoredResults, weight_bits: int, activation_bits: int) -> str:
    """The stored bit-widths closest to those asked for; the weight's count first."""

    def far(bits: str) -> int:
        weight, activation = (int(n) for n in bits.removeprefix("W").split("A"))
        return 10 * abs(weight - weight_bits) + abs(activation - activation_bits)

    return min(results.bits, key=far)


def nearest_strength(results: StoredResults, strength: int) -> int:
    """The stored setting of the salience dial closest to the one asked for."""
    return min(results.strengths, key=lambda n: abs(n - strength))


def remark(selection: Selection, choice: Choice) -> str:
    """Says so where the stored choice is not what the selection asks for; empty where it is."""
    asked = f"W{selection.weight_bits}A{selection.activation_bits}"
    wanted = f"{asked}, salience x {selection.strength}{TOKENS[selection.tokens]}"
    shown = f"{choice.bits}, salience x {choice.strength}{TOKENS[choice.tokens]}"
    return "" if wanted == shown else f"{wanted} is not stored, so this shows {shown}. Compare makes any setting live."


def matching_example(results: StoredResults, selection: Selection, index: int) -> int:
    """The example of the selection's class or prompt and its seed; `index` where there is none."""

    def is_it(one: Example) -> bool:
        asked: object = selection.prompt if one.class_id is None else selection.class_id
        return (one.prompt if one.class_id is None else one.class_id, one.seed) == (asked, selection.seed)

    return next((i for i, one in enumerate(results.examples) if is_it(one)), index)


def opening(results: StoredResults, index: int, choice: Choice) -> dict[str, Any]:
    """All that Start shows of an example and a choice: picture, switches, what they changed, the examples."""
    return {
        **wipe(results, index, choice),
        **verdict(results, index, choice),
        **switchboard(results, choice),
        **filmstrip(results, index),
        "ladder": ladder.rungs(results),
        "dial": dial.marked(dial.curves(results).get(dial.place(choice.bits, choice.tokens)), choice),
        "remark": "",
    }


def table(results: StoredResults, index: int) -> dict[str, Any]:
    """An example's picture in full precision, and by key of the choice what changes when a switch is pressed."""
    choices = [
        Choice(bits=bits, strength=strength, csb=csb, ssc=ssc, tokens=tokens)
        for bits in results.bits
        for strength in results.strengths
        for csb, ssc in SWITCHES.values()
        for tokens in ((False, True) if results.tokens else (False,))
    ]
    views = {one.key: {"right": wipe(results, index, one)["right"], **verdict(results, index, one)} for one in choices}
    return {"left": wipe(results, index, choices[0])["left"], "views": views}


def ways(results: StoredResults) -> dict[str, Any]:
    """How the page finds what is stored for a selection: the examples, the nearest bits and dial for each asked for."""
    bits = {f"{w},{a}": nearest_bits(results, w, a) for w in BITS for a in BITS}
    return {
        "examples": [
            {"class_id": e.class_id, "prompt": e.prompt, "seed": e.seed, "title": e.class_name}
            for e in results.examples
        ],
        "tokens": results.tokens,
        "telling": telling(results),
        "dials": dial.curves(results),
        "nearest": {"bits": bits, "strength": {str(n): nearest_strength(results, n) for n in STRENGTHS}},
    }


def telling(results: StoredResults) -> dict[str, Any] | None:
    """The selection that shows damage and what takes it back; None where nothing stored does."""
    found = results.telling
    if found is None:
        return None
    index, choice = found
    example = results.example(index)
    weight, activation = map(int, choice.bits.removeprefix("W").split("A"))
    picture = {"prompt": example.prompt} if example.class_id is None else {"class_id": example.class_id}
    bits = {"weight_bits": weight, "activation_bits": activation}
    return {**picture, **bits, "seed": example.seed, "strength": choice.strength, "csb": False, "ssc": False}


def switchboard(results: StoredResults, choice: Choice) -> dict[str, Any]:
    """The switches as they stand."""
    strengths = [
        ("strength", n, "as trained" if n == 1 else f"like a large model's (x {n})") for n in results.strengths
    ]
    bits = [("bits", name, name) for name in results.bits]
    return {
        "csb": {"on": _text(choice.csb)},
        "ssc": {"on": _text(choice.ssc), "off": not choice.csb},
        "tokens": {"on": _text(choice.tokens), "off": not results.tokens},
        "choices": [
            {"label": "Outliers", "options": [_option(option, choice.strength) for option in strengths]},
            {"label": "Bits", "options": [_option(option, choice.bits) for option in bits]},
        ],
    }


def _option(option: tuple[str, Any, str], current: Any) -> dict[str, Any]:
    name, value, text = option
    return {"name": name, "value": value, "text": text, "chosen": _text(value == current)}


def _text(flag: bool) -> str:
    return "true" if flag else "false"


def wipe(results: StoredResults, index: int, choice: Choice) -> dict[str, Any]:
    """Full precision left, quantized right."""
    example = results.example(index)
    name = f"{choice.bits}, {NAMES[choice.variant]}{TOKENS[choice.tokens]}"
    return {
        "left": {
            "src": _enlarged(example.full_precision),
            "name": "FP32",
            "alt": f"{example.class_name}, drawn by the full-precision model",
        },
        "right": {
            "src": _enlarged(results.picture(index, choice)),
            "name": name,
            "alt": f"The same {example.class_name}, drawn by the model quantized to {name}, simulated",
        },
    }


def filmstrip(results: StoredResults, index: int) -> dict[str, Any]:
    """The examples as small pictures, one of them chosen."""
    items = [
        {"src": _enlarged(e.full_precision), "title": e.class_name, "chosen": _text(i == index)}
        for i, e in enumerate(results.examples)
    ]
    return {"label": "Examples", "items": items, "chosen": index}


def verdict(results: StoredResults, index: int, choice: Choice) -> dict[str, Any]:
    """A word with its number, one sentence, and the means of the three variants at these bits and this dial.

    A row's sign says how its variant compares with no balancing; `dial.SAID` has it in words.
    """
    means = {name: results.mean(_variant(choice, name)) for name in WAYS}
    psnr, (low, high) = _psnr(results, index, choice), BARS
    mean_of = f"Mean of {means['none'].pictures} pictures at {choice.bits}{TOKENS[choice.tokens]}, {_dial(choice)}"
    return {
        "word": grade(psnr).word,
        "grade": grade(psnr).key,
        "number": f"{psnr:.1f} dB",
        "unit": "of PSNR between this picture and full precision, simulated; higher is closer",
        "sentence": sentence(results, index, choice),
        "caption": f"{mean_of}; bars from {low:g} to {high:g} dB",
        "rows": [_row(name, mean.psnr, means["none"].psnr, name == choice.variant) for name, mean in means.items()],
        "source": _source(results),
    }


def _row(name: str, psnr: float, plain: float, chosen: bool) -> dict[str, str]:
    """A variant's mean as a bar; its sign against no balancing."""
    low, high = BARS
    kind = "plain" if name == "none" else sign(psnr, plain)
    return {
        "name": NAMES[name],
        "psnr": f"{psnr:.1f}",
        "word": grade(psnr).word,
        "width": f"{100 * min(1.0, max(0.02, (psnr - low) / (high - low))):.1f}",
        "state": "chosen" if chosen else "other",
        "sign": kind,
        "said": dial.SAID[kind],
    }


def sentence(results: StoredResults, index: int, choice: Choice) -> str:
    """What the switches change in this picture and on average, in words that the numbers bear out."""
    plain, here = _variant(choice, "none"), choice
    opening = f"With {NAMES[choice.variant].replace('+', 'and')} this picture is"
    if choice.variant == "none":
        here = _variant(choice, "csb+ssc")
        opening = f"Rounded to {choice.bits} as it is. With CSB and SSC this picture would be"
    picture = _compare(_psnr(results, index, here), _psnr(results, index, plain))
    mean = results.mean(here)
    average = _compare(mean.psnr, results.mean(plain).psnr)
    return f"{opening} {picture}. On average over {mean.pictures} pictures: {average}."


def _compare(balanced: float, plain: float) -> str:
    gain = balanced - plain
    if abs(gain) < JUST_NOTICEABLE:
        return f"as far from full precision as without balancing, {plain:.1f} dB"
    where = "closer to" if gain > 0 else "further from"
    return f"{abs(gain):.1f} dB {where} full precision, {balanced:.1f} instead of {plain:.1f}"


def _psnr(results: StoredResults, index: int, choice: Choice) -> float:
    return results.picture(index, choice).psnr or 0.0


def _source(results: StoredResults) -> str:
    made = results.made
    return (
        f"{made['steps']} steps, guidance {made['guidance_scale']:g}, {made['backend']} quantization. "
        f"Made by {made['command']}, commit {made['commit']}, {made['date']}, on {made['hardware']}."
    )


@lru_cache(maxsize=512)
def _enlarged(picture: Picture) -> str:
    return data_uri(picture.pixels())


def _variant(choice: Choice, name: str) -> Choice:
    csb, ssc = SWITCHES[name]
    return replace(choice, csb=csb, ssc=ssc)


def _dial(choice: Choice) -> str:
    return "as trained" if choice.strength == 1 else f"outliers like a large model's (x {choice.strength})"
