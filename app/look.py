"""How a reader looks at a layer's charts: the menus above Inspect's channels, in the link; files follow them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from app.state import BETWEEN, brief, one_of

LOOKS: dict[str, tuple[str, ...]] = {
    "stage": ("both", "before", "after"),
    "scale": ("median", "linear", "log"),
    "sort": ("number", "activation", "weight", "factor"),
    "top": ("all", "16", "32", "64"),
    "span": ("one", "all"),
}
"""Menu -> its values, the usual one first."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """stage: before, after balancing or both; scale; sort: channels by what; top: so many; span: which timesteps.

    Raises ValueError for a value that its menu does not offer.
    """

    stage: str = "both"
    scale: str = "median"
    sort: str = "number"
    top: str = "all"
    span: str = "one"

    def __post_init__(self) -> None:
        """Refuse what no menu offers."""
        for name, allowed in LOOKS.items():
            one_of(name, getattr(self, name), allowed)

    @classmethod
    def read(cls, text: str) -> Look:
        """The look that the page's script tells: its values in order, empty for the usual ones."""
        names = [field.name for field in fields(cls)]
        parts = text.split(BETWEEN) if isinstance(text, str) else []
        if len(parts) != len(names):
            raise ValueError(f"look: expected {', '.join(names)} with {BETWEEN!r} between them; got {brief(text)}")
        return cls(**{name: part for name, part in zip(names, parts, strict=True) if part})

    def order(self, activation: np.ndarray, weight: np.ndarray, factor: np.ndarray, pinned: int) -> np.ndarray:
        """Channel numbers from left to right, of (channel,) saliences and factors; the pinned one is among them."""
        measures = {"activation": activation, "weight": weight}
        if (factor != 1).any():
            measures["factor"] = np.abs(np.log(np.maximum(factor, 1e-12)))
        measure = measures.get(self.sort)
        order = np.arange(len(activation))
        if self.top != "all":
            ranking = np.argsort(-(activation if measure is None else measure), kind="stable")[: int(self.top)]
            chosen = set(ranking.tolist()) | ({pinned} if pinned >= 0 else set())
            order = np.array([j for j in order.tolist() if j in chosen])
        return order if measure is None else order[np.argsort(-measure[order], kind="stable")]

    @property
    def told(self) -> str:
        """What differs from the usual look, in words; empty where nothing does."""
        scale = {"median": "", "linear": "linear", "log": "logarithmic"}[self.scale]
        stage = {"both": "", "before": "before balancing", "after": "after balancing"}[self.stage]
        sort = {"number": "", "activation": "by activation", "weight": "by weight", "factor": "by factor b"}[self.sort]
        top = "" if self.top == "all" else f"top {self.top}"
        span = "" if self.span == "one" else "over all timesteps"
        return ", ".join(part for part in (scale, stage, sort, top, span) if part)
