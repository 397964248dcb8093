"""Stored examples of a model: pictures and numbers that need no torch and no model in memory.

``python -m ptq4dit prepare`` writes ``results.json`` and the pictures beside it; this module only reads them.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.balancing import SWITCHES, Way, way
from app.content.grades import BROKEN, HARD
from app.services.result_files import model_results, number, read_result, result_file, told, whole

FORMAT = 1
NAME = "results.json"
COMMAND = "python -m ptq4dit prepare"
_KEY = re.compile(r"W\d{1,2}A\d{1,2}/x\d{1,4}/(none|csb|csb\+ssc)(/token)?")


@dataclass(frozen=True)
class Choice:
    """Which stored quantization to look at: bit-widths (``"W4A8"``), salience dial, and the three switches."""

    bits: str = "W4A8"
    strength: int = 1
    csb: bool = False
    ssc: bool = False
    tokens: bool = False

    @property
    def variant(self) -> Way:
        """The first two switches in one word."""
        return way(self.csb, self.ssc)

    @property
    def key(self) -> str:
        """The name under which ``results.json`` files this choice, e.g. ``"W4A8/x8/csb+ssc"``, or with ``/token``."""
        return f"{self.bits}/x{self.strength}/{self.variant}" + "/token" * self.tokens


@dataclass(frozen=True)
class Picture:
    """One stored picture, and its distance to the full-precision one from the same noise (None for that one)."""

    path: Path
    psnr: float | None = None
    ssim: float | None = None

    def pixels(self) -> NDArray[np.uint8]:
        """The picture, (height, width, 3)."""
        with Image.open(self.path) as image:
            return np.asarray(image.convert("RGB"))


@dataclass(frozen=True)
class Mean:
    """Mean distance to full precision over ``pictures`` pictures."""

    psnr: float
    ssim: float
    pictures: int


@dataclass(frozen=True)
class Example:
    """One class or prompt and a seed, with its picture in full precision and in every stored quantization.

    class_id: None where the model is given prompts; class_name: the class in words, or the prompt.
    """

    class_id: int | None
    class_name: str
    seed: int
    full_precision: Picture
    quantized: dict[str, Picture]

    @property
    def prompt(self) -> str:
        """The prompt; empty where the model is given a class."""
        return self.class_name if self.class_id is None else ""

    @property
    def title(self) -> str:
        """What a person reads, e.g. ``"torus, seed 3"``."""
        return f"{self.class_name}, seed {self.seed}"


@dataclass(frozen=True)
class StoredResults:
    """Everything the Start tab shows: ``examples``, ``means`` by key, and ``made``: how, when, on what."""

    examples: tuple[Example, ...]
    means: dict[str, Mean]
    made: dict[str, Any]

    @property
    def bits(self) -> tuple[str, ...]:
        """Stored bit-widths in the file's order."""
        return tuple(dict.fromkeys(key.split("/")[0] for key in self.means))

    @property
    def strengths(self) -> tuple[int, ...]:
        """Stored settings of the salience dial in rising order."""
        return tuple(sorted({int(key.split("/")[1].removeprefix("x")) for key in self.means}))

    @property
    def tokens(self) -> bool:
        """Whether pictures with a scale for every token are stored, too."""
        return any(key.endswith("/token") for key in self.means)

    @property
    def telling(self) -> tuple[int, Choice] | None:
        """An example and an unbalanced choice: the most broken picture that balancing makes hard to tell, or mends.

        None where no picture is broken, and where balancing does not help the mean picture, too.
        """
        found: dict[tuple[int, Choice], tuple[bool, float]] = {}
        for choice in self._unbalanced:
            for index in range(len(self.examples)):
                plain = self.picture(index, choice).psnr or 0.0
                balanced = self.picture(index, replace(choice, csb=True, ssc=True)).psnr or 0.0
                if plain < min(BROKEN, balanced):
                    found[index, choice] = balanced >= HARD, -plain
        return max(found, key=lambda one: found[one], default=None)

    @property
    def _unbalanced(self) -> list[Choice]:
        """Stored choices without balancing that balancing improves on average."""
        plain = [Choice(bits=bits, strength=strength) for bits in self.bits for strength in self.strengths]
        return [one for one in plain if self.mean(replace(one, csb=True, ssc=True)).psnr > self.mean(one).psnr]

    def example(self, index: int) -> Example:
        """The example at ``index``; ValueError when there is none."""
        if not 0 <= index < len(self.examples):
            raise ValueError(
                f"example: expected 0 to {len(self.examples) - 1}, got {index}; choose one of the stored examples"
            )
        return self.examples[index]

    def picture(self, index: int, choice: Choice) -> Picture:
        """The quantized picture of an example; ValueError when this choice was not stored."""
        return _stored(self.example(index).quantized, choice)

    def mean(self, choice: Choice) -> Mean:
        """Mean distance to full precision at ``choice``; ValueError when this choice was not stored."""
        return _stored(self.means, choice)


def _stored(table: dict[str, Any], choice: Choice) -> Any:
    if choice.key not in table:
        raise ValueError(f"stored result: expected one of {', '.join(table)}, got {choice.key}; generate it in Compare")
    return table[choice.key]


def load_results(model: str) -> StoredResults:
    """The stored examples of a model.

    Raises:
        ValueError: there are none, or they are another model's; else as `read_results`.
    """
    model_results(model, NAME)
    file = result_file(model, NAME)
    assert file is not None
    return read_results(file.parent)


def read_results(folder: Path) -> StoredResults:
    """Read ``results.json`` in a folder, whosever it is.

    Raises:
        ValueError: the file is missing, of another format or damaged, or names a picture that is not there.
    """
    file = folder / NAME
    format_ = read_result(file, COMMAND).get("format")
    if format_ != FORMAT:
        raise ValueError(f"stored results: expected format {FORMAT}, got {format_}; run {COMMAND}")
    return _read(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(file: Path, _modified: int) -> StoredResults:
    data = read_result(file, COMMAND)
    with whole(file, COMMAND):
        results = StoredResults(
            examples=tuple(_example(file.parent, item) for item in data["examples"]),
            means={_key(key): _mean(value) for key, value in data["means"].items()},
            made=dict(data["made"]),
        )
        _require_all(results)
    return results


def _require_all(results: StoredResults) -> None:
    """Raise KeyError unless every choice that can be made is there, of every example."""
    wanted = {
        Choice(bits=bits, strength=strength, csb=csb, ssc=ssc, tokens=tokens).key
        for bits in results.bits
        for strength in results.strengths
        for csb, ssc in SWITCHES.values()
        for tokens in {False, results.tokens}
    }
    if not results.examples or not wanted <= results.means.keys():
        raise KeyError("examples, and the means of every choice")
    if not all(wanted <= example.quantized.keys() for example in results.examples):
        raise KeyError("a picture of every choice")


def _key(key: str) -> str:
    return _KEY.fullmatch(key)[0]  # type: ignore[index]


def _mean(value: dict[str, Any]) -> Mean:
    return Mean(psnr=value["psnr"] + 0.0, ssim=value["ssim"] + 0.0, pictures=value["pictures"] + 0)


def _example(folder: Path, item: dict[str, Any]) -> Example:
    return Example(
        class_id=item.get("class_id"),
        class_name=str(item.get("class_name") or item["prompt"]),
        seed=item["seed"] + 0,
        full_precision=_picture(folder, item["full_precision"]),
        quantized={key: _picture(folder, value) for key, value in item["quantized"].items()},
    )


def _picture(folder: Path, item: dict[str, Any]) -> Picture:
    path = folder / item["file"]
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"stored results: expected pictures beside {told(folder / NAME)}, got one elsewhere; run {COMMAND}"
        )
    if not path.is_file():
        raise ValueError(f"stored results: expected {told(path)}, got no such file; run {COMMAND}")
    return Picture(path, number(item.get("psnr")), number(item.get("ssim")))
