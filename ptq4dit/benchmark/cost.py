"""What a method adds to a forward pass: milliseconds on integers, over static W8A8 in turn with it."""

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ptq4dit.backends.dispatch import with_backend
from ptq4dit.backends.options import IntegerOptions
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.calibration.trajectories import Trajectories, collect
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.method import Job
from ptq4dit.methods.registry import METHODS
from ptq4dit.model.bundle import Dit
from ptq4dit.speed.interleaved import time_in_turn

_STATIC = QuantConfig(method="rtn", weight_bits=8, backend="integer")
"""What every method is compared with: one scale for each input, known beforehand."""
_FEW = CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=2)
"""Enough for what a method looks at beside the statistics; its result costs the same."""


class CostMeter:
    """Times methods' models against static W8A8 on the backend that runs integers here."""

    def __init__(
        self, dit: Dit, stats: Calibration, *, rows: int = 4, rounds: int = 15, options: IntegerOptions | None = None
    ) -> None:
        """Compile what all are compared with.

        Args:
            dit: the float bundle.
            stats: its calibration.
            rows: of a forward pass, taken from a sampling run.
            rounds: forward passes of each model, one after the other in turn.
            options: of the integer backend.

        Raises:
            ValueError: if static W8A8 does not run on integers here.
        """
        self._dit, self._stats, self._rounds, self._options = dit, stats, rounds, options
        self._data: Trajectories = collect(dit, _FEW)
        chosen = torch.arange(rows) % len(self._data)
        self._call = self._data.call(chosen, next(dit.transformer.parameters()).device)
        self._static = self._forward(_STATIC)

    def cost(self, method: str, weight_bits: int, activation_bits: int) -> dict[str, Any]:
        """``ms`` of a forward pass and ``added_ms`` over static W8A8, its median and quartiles; or why not.

        What a method learns changes no cost, so nothing is learned.

        Returns:
            ``{"ms", "static_ms", "added_ms", "added_ms_quartiles", "rounds", "runtime"}``, or ``{"refused": reason}``
            where integers do not run it.
        """
        config = QuantConfig(method=method, weight_bits=weight_bits, activation_bits=activation_bits, backend="integer")
        try:
            call, runtime = self._forward(config)
        except ValueError as error:
            return {"refused": str(error)}
        seconds = time_in_turn({"static": self._static[0], "method": call}, self._rounds)
        added = [1e3 * (mine - base) for mine, base in zip(seconds["method"], seconds["static"], strict=True)]
        low, middle, high = statistics.quantiles(added, n=4, method="inclusive")
        return {
            "ms": round(1e3 * statistics.median(seconds["method"]), 3),
            "static_ms": round(1e3 * statistics.median(seconds["static"]), 3),
            "added_ms": round(middle, 3),
            "added_ms_quartiles": [round(low, 3), round(high, 3)],
            "rounds": self._rounds,
            "runtime": runtime,
        }

    def _forward(self, config: QuantConfig) -> tuple[Callable[[], Any], str]:
        method = METHODS[config.method]
        prepared = replace(method.prepared(config), reconstruction=None)
        job = Job(dit=self._dit, stats=self._stats, config=prepared, given_data=self._data)
        transformer = with_backend(method.run(job), "integer", self._options).transformer
        self._call.on(transformer)  # compiled now, where that can be refused
        return lambda: self._call.on(transformer), transformer.runtime
