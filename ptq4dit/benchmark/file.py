"""A benchmark's file, to which several processes may add rows and costs, and none of them loses another's."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ptq4dit.benchmark.config import BenchmarkConfig
from ptq4dit.methods.registry import METHODS
from ptq4dit.storage.json_file import update

FORMAT = "ptq4dit-benchmark-1"
_COSTS = ("costs", "costs_made")


class BenchmarkFile:
    """Results that were measured in one way of one model."""

    def __init__(
        self, path: Path, config: BenchmarkConfig, basis: Mapping[str, Any], made_by: Mapping[str, Any]
    ) -> None:
        """Name a file.

        Args:
            path: JSON file, which need not be there yet.
            config: methods, bits, strengths, seeds, sampling.
            basis: what all numbers rest on beside the config.
            made_by: command, commit, hardware and versions.
        """
        self.path, self.config, self.basis, self.made_by = path, config, dict(basis), dict(made_by)

    def content(self) -> dict[str, Any]:
        """What it holds, or would hold without any row.

        Raises:
            ValueError: if it holds results that were measured in another way, or is no benchmark.
        """
        return self._joined(read_benchmark(self.path) if self.path.is_file() else {}, {})

    def add(self, key: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """Add a row to what it holds by now, and write it whole.

        Returns:
            What it holds.

        Raises:
            ValueError: as `content`.
        """
        return update(self.path, lambda held: self._joined(held, {key: dict(row)}))

    def _joined(self, held: Mapping[str, Any], rows: Mapping[str, Any]) -> dict[str, Any]:
        """What it is to hold once rows are added: all results, their methods, and what `add_costs` has put there."""
        if held:
            require_whole(held, self.path)
            self._require_same(held)
        results = held.get("results", {}) | dict(rows)
        return {
            "format": FORMAT,
            "made": self.made_by | {"backend": "simulated"} | self.basis,
            "config": json.loads(json.dumps(dataclasses.asdict(self.config))),
            "methods": self._methods(held.get("methods", {}), results),
            "results": results,
            **{name: held[name] for name in _COSTS if name in held},
        }

    def _methods(self, held: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
        """What each method is, in the registry's order; what another version knew stays."""
        named = {key.split("/")[2] for key in results} | set(self.config.methods)
        own = {name: _about(name) for name in METHODS if name in named}
        return own | {name: about for name, about in held.items() if name in named and name not in own}

    def _require_same(self, held: Mapping[str, Any]) -> None:
        """Refuse results that were measured in another way, or of another model."""
        mine = json.loads(json.dumps(dataclasses.asdict(self.config))) | self.basis
        theirs = {**self.basis, **held["config"], **held["made"]}  # an older file does not name all of its basis
        theirs.setdefault("prompts", [])
        alike = ("prompts", "seeds", "pictures", "steps", "guidance_scale", "sampler", "reconstruction", *self.basis)
        for name in alike:
            if theirs.get(name) != mine[name]:
                raise ValueError(
                    f"Expected {name} to be {theirs.get(name)!r}, as of the results in {str(self.path)!r}, got "
                    f"{mine[name]!r}. {_elsewhere(self.path)}"
                )


def read_benchmark(out: Path) -> dict[str, Any]:
    """A benchmark's file.

    Raises:
        ValueError: if there is none, or something else.
    """
    try:
        content = json.loads(out.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"Expected a benchmark in {str(out)!r}, got none or a damaged file: {error}. {_elsewhere(out)}"
        ) from error
    require_whole(content, out)
    return dict(content)


def require_whole(content: Any, out: Path) -> None:
    """Refuse what is no benchmark.

    Raises:
        ValueError: saying what is wrong with it.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"Expected a benchmark in {str(out)!r}, got something else. {_elsewhere(out)}")
    if not all(isinstance(content.get(name, {}), dict) for name in ("methods", *_COSTS)) or not all(
        isinstance(content.get(name), dict) for name in ("config", "made", "results")
    ):
        raise ValueError(f"Expected a whole benchmark in {str(out)!r}, got a part of one. {_elsewhere(out)}")


def _elsewhere(out: Path) -> str:
    return f"Name another file with --out (out=), or remove {str(out)!r}."


def _about(name: str) -> dict[str, str]:
    method = METHODS[name]
    return {key: getattr(method, key) for key in ("title", "citation", "summary", "inference")}
