"""The story of one channel on Learn: six steps that the page turns by itself once the numbers are there."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.balancing import NAMES
from app.components.messages import in_words
from app.components.part import html_part
from app.content import story as say
from app.content.grades import grade
from app.figures.picture import data_uri
from app.services import story as service
from app.services.loading import ModelMissing
from app.services.stored import Choice, load_results
from app.state import Selection
from app.tabs import start_view

DIGITS = 4  # significant ones of what is drawn


def create_story() -> None:
    """Render it; its script follows the selection and asks for the numbers."""
    titles = [{"number": number, "title": title} for number, title in enumerate(say.TITLES)]
    html_part(
        "story",
        {"titles": titles},
        scripts=("store",),
        apply_default_css=False,
        elem_id="learn-story",
        server_functions=[story],
    )


def story(asked: Any) -> dict[str, Any]:
    """What the script asks of a selection: six steps with words and what to draw; the problem where there is none."""
    try:
        selection = Selection.from_part(asked)
        where = selection.model, selection.layer, selection.strength
        found = service.story(*where, selection.channel, selection.activation_bits)
        return {"title": f"Channel {found.channel} of {selection.layer}", "steps": steps(found, selection)}
    except (ValueError, ModelMissing) as error:
        return {"problem": in_words(error)}


def steps(found: service.Story, selection: Selection) -> list[dict[str, Any]]:
    """The six steps."""
    others = int(found.levels[found.other]), int(found.balanced_levels[found.other])
    of = 2 ** (selection.activation_bits if selection.activation_bits <= 8 else 8)
    own, reach = int(found.levels[found.channel]), np.abs(found.values).max()
    grid = found.low, found.high, found.step
    typical = float(np.abs(found.ordinary).max())
    balanced = (
        say.balance(found.channel, found.activation, found.weight, found.factor, others)
        if found.balanced
        else say.unbalanced(found.why)
    )
    folded = (
        say.folding(found.makers, found.itself, found.why, found.difference)
        if found.balanced
        else say.unbalanced(found.why)
    )
    return [
        {"text": say.rounding(found.channel, selection.layer, found.channels, *grid, own, of), **_line(found)},
        {"text": say.outlier(found.channel, float(reach), typical, own, of, others[0]), **_bars(found, False, of)},
        {"text": balanced, **_bars(found, found.balanced, of)},
        {"text": folded, **_flow(found)},
        {"text": say.time(found.channel, found.timesteps, found.salience, found.average), **_time(found)},
        _pictures(selection),
    ]


def _line(found: service.Story) -> dict[str, Any]:
    """The channel's kept values above an ordinary one's, on the grid."""
    return {
        "kind": "line",
        "rows": [
            {"name": f"channel {found.channel}", "values": _short(found.values)},
            {"name": f"channel {found.other}, typical", "values": _short(found.ordinary)},
        ],
        "low": found.low,
        "high": found.high,
        "step": found.step,
    }


def _bars(found: service.Story, balanced: bool, of: int) -> dict[str, Any]:
    """Levels that each channel covers, before and, once balanced, after."""
    after = found.balanced_levels.astype(int).tolist() if balanced else []
    return {"kind": "bars", "before": found.levels.astype(int).tolist(), "after": after, "at": found.channel, "of": of}


def _flow(found: service.Story) -> dict[str, Any]:
    """Who makes the channel, the channel, who reads it."""
    makers = list(found.makers) if found.balanced and found.makers else ["nothing in front"]
    factor = f"{found.factor:.3g}" if found.balanced else "1"
    return {
        "kind": "flow",
        "makers": makers,
        "channel": found.channel,
        "factor": factor,
        "readers": list(found.readers),
    }


def _time(found: service.Story) -> dict[str, Any]:
    """Salience over the timesteps with its average."""
    return {
        "kind": "time",
        "timesteps": _short(found.timesteps),
        "salience": _short(found.salience),
        "average": found.average,
    }


def _pictures(selection: Selection) -> dict[str, Any]:
    """The stored picture in full precision, rounded, and rounded once balanced; the reason where none is stored."""
    try:
        results = load_results(selection.model)
    except ValueError as error:
        return {"text": in_words(error), "kind": "pictures", "pictures": []}
    near = start_view.nearest(results, selection)
    index = start_view.matching_example(results, selection, 0)
    example = results.example(index)
    choices = {
        name: Choice(bits=near.bits, strength=near.strength, csb=name != "none", ssc=name != "none")
        for name in ("none", "csb+ssc")
    }
    found = {name: results.picture(index, choice) for name, choice in choices.items()}
    plain, balanced = (found[name].psnr or 0.0 for name in choices)
    shown = [{"src": data_uri(example.full_precision.pixels()), "name": "full precision", "word": "the original"}]
    shown += [
        {"src": data_uri(one.pixels()), "name": NAMES[name], "word": grade(one.psnr or 0.0).word}
        for name, one in found.items()
    ]
    return {
        "text": say.picture(example.title, near.bits, plain, balanced),
        "kind": "pictures",
        "pictures": [one | {"alt": f"{example.class_name}, {one['name']}"} for one in shown],
    }


def _short(values: np.ndarray) -> list[float]:
    """Numbers as short as a drawing needs them."""
    return [float(f"{value:.{DIGITS}g}") for value in values.tolist()]
