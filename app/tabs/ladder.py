"""What a PSNR looks like: a model's own stored pictures, nearest to 20, 25, 30 and 40 dB."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from app.content.grades import grade
from app.figures.picture import data_uri
from app.services.stored import Picture, StoredResults

TARGETS = (20.0, 25.0, 30.0, 40.0)
NEAR = 3.0  # dB; no rung may be further from its target
NOTHING: list[dict[str, Any]] = []


def rungs(results: StoredResults) -> list[dict[str, Any]]:
    """The original and its quantized pictures from broken to hard to tell: all of the one example that fits best.

    Empty where no example has a picture within `NEAR` of every target.
    """
    found = [
        (index, [_nearest(results, index, target) for target in TARGETS]) for index in range(len(results.examples))
    ]
    misses = {index: max(abs(p.psnr - t) for p, t in zip(row, TARGETS, strict=True)) for index, row in found}
    best = min(misses, key=lambda index: misses[index], default=None)
    if best is None or misses[best] > NEAR:
        return NOTHING
    example, row = results.example(best), dict(found)[best]
    return [_rung(example.full_precision, example.class_name), *(_rung(one, example.class_name) for one in row)]


def _nearest(results: StoredResults, index: int, target: float) -> Any:
    """The stored picture of an example that comes closest to a PSNR."""
    known = [picture for picture in results.example(index).quantized.values() if picture.psnr is not None]
    return min(known, key=lambda picture: abs((picture.psnr or 0.0) - target))


@lru_cache(maxsize=64)
def _rung(picture: Picture, name: str) -> dict[str, Any]:
    shown = {"src": data_uri(picture.pixels())}
    if picture.psnr is None:
        return shown | {"psnr": "original", "word": "", "grade": "original", "alt": f"{name}, full precision"}
    found = grade(picture.psnr)
    told = {"psnr": f"{picture.psnr:.1f} dB", "word": found.word, "grade": found.key}
    return shown | told | {"alt": f"The same {name}, quantized: {picture.psnr:.1f} dB"}
