"""The stored benchmark: every method measured on the same noise. `python -m ptq4dit benchmark` writes it; no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.services.loading import command
from app.services.result_files import model_results, number, read_result, result_file, whole

FORMAT = "ptq4dit-benchmark-1"
NAME = "benchmark.json"
COMMAND = "python -m ptq4dit benchmark"
BASE = "ptq4dit"
_KEY = re.compile(r"x(\d{1,4})/(W\d{1,2}A\d{1,2})/(factorial/)?([^/]+)")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A mean and the ends of its 95% interval; None where one value gives no interval."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class About:
    """What a method is, as its recipe says."""

    title: str
    citation: str = ""
    summary: str = ""
    inference: str = ""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model's numbers: metrics by name, the latents' drift after every step, PSNR picture by picture, cost."""

    metrics: Mapping[str, Spread]
    drift_by_step: tuple[float, ...] = ()
    psnr_each: tuple[float, ...] = ()
    cpu_seconds: float | None = None
    bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a table of the benchmark holds fixed: the salience dial and the bit-widths."""

    strength: int
    bits: str

    @property
    def title(self) -> str:
        """Such as "W4A8" or "W4A8, salience x 8"."""
        return self.bits if self.strength == 1 else f"{self.bits}, salience x {self.strength}"


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """All that was measured so far; any cell may be missing."""

    methods: Mapping[str, About]
    tables: Mapping[Setting, Mapping[str, Cell]]
    factorials: Mapping[Setting, Mapping[str, Cell]]
    made: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)

    def table(self, setting: Setting) -> Mapping[str, Cell]:
        """Method -> cell, in the registry's order; empty where nothing was measured."""
        return self.tables.get(setting, {})

    def missing(self, setting: Setting) -> list[str]:
        """Titles of the methods that were not measured at a setting."""
        return [about.title for name, about in self.methods.items() if name not in self.table(setting)]

    def nearest(self, strength: int, weight_bits: int, activation_bits: int) -> Setting | None:
        """The measured setting that comes closest to a selection; None where nothing is measured."""

        def far(setting: Setting) -> tuple[int, int]:
            weight, activation = (int(n) for n in setting.bits.removeprefix("W").split("A"))
            bits = 10 * abs(weight - weight_bits) + abs(activation - activation_bits)
            return bits, abs(setting.strength - strength)

        return min(self.tables, key=far, default=None)


def gains(cells: Mapping[str, Cell], base: str) -> dict[str, Spread]:
    """PSNR of every cell minus that of `base`, paired picture by picture, with its 95% interval; without the base."""
    from ptq4dit.metrics.interval import paired_difference

    if base not in cells:
        return {}
    reference = cells[base].psnr_each
    pairs = {name: c.psnr_each for name, c in cells.items() if name != base and len(c.psnr_each) == len(reference) > 1}
    found = {name: paired_difference(each, reference) for name, each in pairs.items()}
    return {name: Spread(mean=gain.mean, low=gain.low, high=gain.high) for name, gain in found.items()}


def load_benchmark(model: str) -> Benchmark:
    """The stored benchmark of a model. Raises ValueError where there is none, or it is another model's."""
    content = model_results(model, NAME, command(model, "prepare", "--benchmark"))
    file = result_file(model, NAME)
    assert file is not None and content
    return read_benchmark(file.parent)


def read_benchmark(folder: Path) -> Benchmark:
    """Read `benchmark.json` in a folder, whosever it is. Raises ValueError where it cannot."""
    file = folder / NAME
    content = read_result(file, COMMAND)
    if content.get("format") != FORMAT:
        raise ValueError(f"stored benchmark: expected format {FORMAT}, got {content.get('format')}; run {COMMAND}")
    return _benchmark(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _benchmark(file: Path, _modified: int) -> Benchmark:
    with whole(file, COMMAND):
        return _understood(read_result(file, COMMAND))


def _understood(content: dict[str, Any]) -> Benchmark:
    methods = {name: About(**about) for name, about in content.get("methods", {}).items()}
    tables: dict[Setting, dict[str, Cell]] = {}
    factorials: dict[Setting, dict[str, Cell]] = {}
    for key, numbers in content.get("results", {}).items():
        strength, bits, factorial, name = _KEY.fullmatch(key).groups()  # type: ignore[union-attr]
        target = factorials if factorial else tables
        target.setdefault(Setting(strength=int(strength), bits=bits), {})[name] = _cell(numbers)
    return Benchmark(
        methods=methods,
        tables={setting: _ordered(cells, methods) for setting, cells in tables.items()},
        factorials=factorials,
        made=dict(content.get("made", {})),
        config=dict(content.get("config", {})),
    )


def _ordered(cells: dict[str, Cell], methods: Mapping[str, About]) -> dict[str, Cell]:
    known = [name for name in methods if name in cells]
    return {name: cells[name] for name in [*known, *(name for name in cells if name not in methods)]}


def _cell(numbers: Mapping[str, Any]) -> Cell:
    measured = {name: one for name, one in numbers["metrics"].items() if number(one.get("mean")) is not None}
    spreads = {
        name: Spread(mean=one["mean"], low=number(one.get("low")), high=number(one.get("high")))
        for name, one in measured.items()
    }
    return Cell(
        metrics=spreads,
        drift_by_step=tuple(value + 0.0 for value in numbers.get("drift_by_step", ())),
        psnr_each=tuple(value + 0.0 for value in numbers.get("psnr_each", ())),
        cpu_seconds=number(numbers.get("cpu_seconds")),
        bytes=numbers.get("bytes"),
    )
