"""Run a benchmark: one model after the other, saved after each, resumable."""

import dataclasses
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ptq4dit.benchmark.config import BenchmarkConfig
from ptq4dit.benchmark.file import BenchmarkFile, read_benchmark, require_whole
from ptq4dit.benchmark.measure import Drawn, Judge, compare, draw
from ptq4dit.calibration.run import Cancelled
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.calibration.trajectories import Trajectories
from ptq4dit.checkpoint.packed import packed_bytes
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.registry import METHODS, quantize
from ptq4dit.metrics.interval import mean_interval
from ptq4dit.model.bundle import Dit
from ptq4dit.reconstruction.training import training_data
from ptq4dit.salience_dial import amplification_factors, amplify_salience
from ptq4dit.storage.json_file import update

_LISTS = ("drift_by_step", "psnr_each")


def benchmark(
    dit: Dit,
    stats: Calibration,
    config: BenchmarkConfig,
    out: Path,
    made_by: Mapping[str, Any],
    *,
    judged: Judge | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    part: Callable[[Sequence[Any]], Sequence[Any]] | None = None,
) -> dict[str, Any]:
    """Measure every job of a config that ``out`` does not hold yet; ``out`` is rewritten whole after each.

    Several processes may work on one file: each measures what is not in it, and loses nothing of the others'.

    Args:
        dit: the float bundle.
        stats: its calibration, used by all methods.
        config: methods, bits, strengths, seeds, sampling.
        out: JSON file.
        made_by: command, commit, hardware and versions, stored beside the numbers.
        judged: classifier and real features, for the metrics that need them.
        progress: told (key, jobs in the file, jobs in all) before each, and at the end; those of all processes.
        cancelled: asked between pieces of work.
        part: which of the jobs are this process's, where several share them; None for all.

    Returns:
        What the file holds: ``{"format", "made", "config", "methods", "results": {key: numbers}}``.

    Raises:
        Cancelled: once ``cancelled`` says True; what was measured stays in the file.
        ValueError: if ``out`` holds results that were measured in another way, or is no benchmark.
    """
    file = BenchmarkFile(out, config, _basis(stats, judged), made_by)
    content = file.content()
    bench = _Bench(dit, stats, config, judged, cancelled)
    everything = [key for key, _, _ in config.jobs()]
    for key, strength, wanted in config.jobs() if part is None else part(config.jobs()):
        if key not in content["results"]:
            _tell(progress, key, content["results"], everything)
            content = file.add(key, bench.measure(strength, wanted) | {"commit": made_by.get("commit", "unknown")})
    _tell(progress, everything[-1], content["results"], everything)
    return content


def _tell(
    progress: Callable[[str, int, int], None] | None, key: str, results: Mapping[str, Any], jobs: Sequence[str]
) -> None:
    if progress is not None:
        progress(key, sum(job in results for job in jobs), len(jobs))


def add_costs(
    out: Path,
    measure: Callable[[str, int, int], dict[str, Any]],
    config: BenchmarkConfig,
    made_by: Mapping[str, Any],
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure what each method of a benchmark adds to a forward pass, on a machine that does nothing else.

    Args:
        out: a file that `benchmark` has written; it is rewritten whole after each measurement.
        measure: (method, weight bits, activation bits) -> numbers; `CostMeter.cost` of the same model.
        config: which methods, at which bits; what the file holds already is not measured again.
        made_by: command, commit, hardware and versions, stored beside the numbers.
        progress: told (key, done, in all).

    Returns:
        What the file holds, with ``"costs"``: ``"W4A8/<method>"`` -> numbers, see `CostMeter.cost`.

    Raises:
        ValueError: if there is no benchmark.
    """
    content = read_benchmark(out)
    wanted = {
        f"W{weight}A{activation}/{name}": (name, weight, activation)
        for weight, activation in config.bits
        for name in config.methods
        if name in content.get("methods", {})
    }
    for done, (key, asked) in enumerate(wanted.items()):
        if progress is not None:
            progress(key, done, len(wanted))
        if key not in content.get("costs", {}):
            cost = {"costs": {key: measure(*asked)}, "costs_made": dict(made_by)}
            content = update(out, partial(_with_cost, out, cost))
    return {"costs": {}} | content


def _with_cost(out: Path, cost: dict[str, Any], held: dict[str, Any]) -> dict[str, Any]:
    """What a benchmark is to hold with one more cost, whatever others have added meanwhile."""
    require_whole(held, out)
    return held | cost | {"costs": held.get("costs", {}) | cost["costs"]}


class _Bench:
    """What all models of a benchmark share: references, data, amplified twins."""

    def __init__(
        self,
        dit: Dit,
        stats: Calibration,
        config: BenchmarkConfig,
        judged: Judge | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self.dit, self.stats, self.config, self.judged, self.cancelled = dit, stats, config, judged, cancelled
        self._references: dict[int, Drawn] = {}
        self._data: dict[tuple[int | None, ...], tuple[Trajectories, float]] = {}

    def data(self, wanted: QuantConfig) -> tuple[Trajectories | None, float]:
        """Inputs for reconstruction, if there is to be one, and what they cost a method that brings its own amount.

        Amplified twins have the same ones, their function being the same. The cost is processor seconds; 0 for what
        all methods share.
        """
        settings = METHODS[wanted.method].prepare(wanted).reconstruction
        if settings is None:
            return None, 0.0
        amount = (settings.images, settings.timesteps, settings.sampling_steps)
        if amount not in self._data:
            begun = time.process_time()
            found = training_data(self.dit, self.stats.config, settings, cancelled=self.cancelled)
            self._data[amount] = found, time.process_time() - begun
        found, seconds = self._data[amount]
        return found, seconds if wanted.reconstruction is None else 0.0

    def reference(self, seed: int) -> Drawn:
        """Full precision's set."""
        if seed not in self._references:
            self._references[seed] = draw(self.dit, self.config, seed)
        return self._references[seed]

    def measure(self, strength: int, wanted: QuantConfig) -> dict[str, Any]:
        """All numbers of one model; PSNR's interval is over pictures, those of the other metrics are over seeds."""
        dit, stats = self._twin(strength, wanted)
        data, sampling_seconds = self.data(wanted)
        begun = time.process_time()
        model = quantize(dit, stats, wanted, data=data, cancelled=self.cancelled)
        seconds = time.process_time() - begun + sampling_seconds
        sets = []
        for seed in self.config.seeds:
            if self.cancelled is not None and self.cancelled():
                raise Cancelled("The benchmark was cancelled; what was measured is kept.")
            sets.append(compare(draw(model, self.config, seed), self.reference(seed), self.judged))
        means: dict[str, Any] = {}
        for name in sets[0]:
            values: list[Any] = [numbers[name] for numbers in sets]
            if name not in _LISTS:
                means[name] = _interval(values)
        each = [value for numbers in sets for value in numbers["psnr_each"]]  # type: ignore[union-attr]
        means["psnr"] = _interval(each)
        drift = torch.tensor([numbers["drift_by_step"] for numbers in sets]).mean(0)
        return {
            "metrics": means,
            "drift_by_step": [_short(value) for value in drift.tolist()],
            "psnr_each": each,
            "cpu_seconds": round(seconds, 1),
            "bytes": packed_bytes(model),
        }

    def _twin(self, strength: int, wanted: QuantConfig) -> tuple[Dit, Calibration]:
        if strength == 1:
            return self.dit, self.stats
        factors = amplification_factors(self.dit.transformer, float(strength))
        raised = amplify_salience(self.dit, float(strength))
        return raised, self.stats.rescaled_for(factors, raised.transformer)


def command_as_typed() -> str:
    """The benchmark's command line, to be typed again."""
    typed = sys.argv[1:] if Path(sys.argv[0]).parent.name == "ptq4dit" else ["benchmark"]
    return shlex.join(["python", "-m", "ptq4dit", *typed])


def _interval(values: list[float]) -> dict[str, float | None]:
    return {key: _short(value) for key, value in dataclasses.asdict(mean_interval(values)).items()}


def _short(value: float) -> float | None:
    return float(f"{value:.5g}") if value == value else None


def _basis(stats: Calibration, judged: Judge | None) -> dict[str, Any]:
    """What all numbers of a file rest on beside its config: model, calibration, judge."""
    judge = "none" if judged is None else f"{type(judged.classifier).__name__}, {len(judged.pooled)} real pictures"
    return {"model_fingerprint": stats.model, "calibration": dataclasses.asdict(stats.config), "judge": judge}
