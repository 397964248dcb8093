"""How fast the app answered when that was measured, against the bars that it was built to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.services.result_files import model_results, whole

NAME = "feel.json"
COMMAND = "python assets/recipes/feel.py"


@dataclass(frozen=True, kw_only=True)
class Felt:
    """One thing that was measured: in words, the bar, and what came out."""

    what: str
    bar: str
    measured: str


def load_feel(model: str) -> tuple[list[Felt], dict[str, Any]]:
    """Every measurement made on a model, and how it was made. Raises ValueError where nothing is stored."""
    content = model_results(model, NAME, COMMAND)
    with whole(Path(NAME), COMMAND):
        return _felt(content), dict(content["made"])


def _felt(content: dict[str, Any]) -> list[Felt]:
    bars, held = content["bars"], content["memory_mb"]
    changes = content["changes_ms"]
    slowest = max(changes, key=lambda name: changes[name]["p95"])
    visitors = content["visitors_ms"]
    return [
        Felt(
            what="Process start to first usable page",
            bar=f"{bars['first_page_s']:g} s",
            measured=f"{content['first_page_s']:.1f} s",
        ),
        Felt(
            what=f"Any change, click to new picture, p95 of the slowest of {len(changes)} kinds ({slowest})",
            bar=f"{bars['change_p95_ms']:g} ms",
            measured=f"{content['change_p95_ms']:.0f} ms",
        ),
        Felt(
            what="20 visitors changing layers while one generates, p95 of answers; of frames in one browser",
            bar=f"{bars['visitors_p95_ms']:g} ms",
            measured="; ".join(f"{one['p95']:.0f} ms" for one in visitors.values()),
        ),
        Felt(
            what="Three-way comparison, 25 steps, integer",
            bar=f"{bars['comparison_s']:g} s",
            measured=f"{content['comparison_s']:.1f} s",
        ),
        Felt(
            what="Its first intermediate picture",
            bar=f"{bars['first_picture_s']:g} s",
            measured=f"{content['first_picture_s']:.2f} s",
        ),
        Felt(
            what=f"Memory before, half-way and after {content['memory_changes']} look-ups and "
            f"{content['memory_comparisons']} comparisons",
            bar=f"{bars['memory_growth_percent']:g}% more in the second half",
            measured=", ".join(f"{held[i]} MB" for i in (0, len(held) // 2, -1)),
        ),
    ]
