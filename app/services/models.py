"""The explored model: its outline read from JSON at once, itself loaded with torch in the background, both kept once."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from app.state import ROLES

DEMO = "assets/demo"
FIRST_PAGE_HEAD_START = 3.0  # seconds that the first page has the processor for itself before torch is imported


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What the page needs to know of a model before torch is there."""

    source: str
    blocks: int
    labels: tuple[str, ...]

    @property
    def layers(self) -> list[str]:
        """The names of all inspectable layers in model order."""
        return [f"blocks.{block}.{role}" for block in range(self.blocks) for role in ROLES]


def source() -> str:
    """The explored model: PTQ4DIT_MODEL where it is set, else the demo model."""
    return os.environ.get("PTQ4DIT_MODEL") or DEMO


@lru_cache(maxsize=1)
def outline() -> Outline:
    """The outline of the explored model, from its JSON files alone; an empty one where there is no such folder."""
    folder = Path(source())
    if not (folder / "model_index.json").is_file():
        return Outline(source=str(folder), blocks=1, labels=("0",))
    index = json.loads((folder / "model_index.json").read_text())
    config = json.loads((folder / "transformer" / "config.json").read_text())
    named = {int(key): str(name) for key, name in index.get("id2label", {}).items()}
    labels = tuple(named.get(i, str(i)) for i in range(config["num_embeds_ada_norm"]))
    return Outline(source=str(folder), blocks=config["num_layers"], labels=labels)


def warm_up_later() -> None:
    """Begin loading torch and the model once the first page has had the processor."""
