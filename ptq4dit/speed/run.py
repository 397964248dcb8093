"""Build, load, time and weigh every contestant; whoever fails is in the result with the reason."""

import gc
import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ptq4dit.speed.config import SpeedConfig
from ptq4dit.speed.contestants.contestant import Contestant, Loaded
from ptq4dit.speed.contestants.registry import BASELINE, chosen
from ptq4dit.speed.exact import exact_output, relative_error
from ptq4dit.speed.floor import floors, measure_machine, profile_floors
from ptq4dit.speed.images import measure_images
from ptq4dit.speed.interleaved import ratio, summary, time_in_turn
from ptq4dit.speed.memory_probe import resident_in_a_child
from ptq4dit.speed.quality import Judge
from ptq4dit.speed.subject import Subject, prepare

FORMAT = "ptq4dit-speed-1"
_LARGE_BYTES = 500_000_000
Progress = Callable[[str], None]


def measure_speed(
    config: SpeedConfig,
    made: dict[str, Any],
    progress: Progress = lambda _: None,
    machine: dict[str, float] | None = None,
) -> dict[str, Any]:
    """Measure all chosen contestants on one model.

    Args:
        config: what to do.
        made: provenance, kept in the result.
        progress: told in words what happens next.
        machine: what `measure_machine` found; None to ask it.

    Returns:
        Plain JSON values: ``made``, ``config``, ``model``, ``machine`` and ``contestants`` by key.

    Raises:
        ValueError: if the model cannot be loaded, a contestant is unknown, or pictures of an untrained model are asked.
    """
    contestants = chosen(config.only)
    with _folder(config.keep) as folder:
        progress("preparing the model")
        subject = prepare(config, folder)
        if config.pictures and subject.own_inputs() is None:
            raise ValueError("Expected a whole trained model for pictures, got random weights or a shortened one.")
        bench = _Bench(config, subject, progress)
        if machine is None:
            progress("measuring the machine")
            machine = measure_machine(config.threads)
        results = bench.run(contestants)
        for result in results.values():
            for batch, numbers in result.get("batches", {}).items():
                numbers["floor"] = floors(subject.about, int(batch), result["label"], result["note"], machine)
                if "profile" in numbers:
                    least = profile_floors(subject.about, int(batch), result["note"], machine)
                    numbers["profile"]["floor_ms"] = least
        images = {"images": bench.images} if bench.images else {}
        return images | {
            "format": FORMAT,
            "made": made | {"model_fingerprint": subject.calibration().model},
            "config": {name: value for name, value in vars(config).items() if name != "keep"}
            | {"together": bench.together},
            "model": subject.about,
            "machine": {name: float(f"{value:.4g}") for name, value in machine.items()},
            "contestants": results,
        }


class _Bench:
    """One model's measurement: where things are, what is expected, what has been found."""

    def __init__(self, config: SpeedConfig, subject: Subject, progress: Progress) -> None:
        self.config, self.subject, self.progress = config, subject, progress
        small = subject.about["parameters"] * 4 < _LARGE_BYTES
        self.clock = time.process_time if config.processor_time else time.perf_counter
        self.together = small if config.together is None else config.together
        self.inputs = {batch: subject.inputs(batch, config.seed) for batch in config.batches}
        self.results: dict[str, dict[str, Any]] = {}
        self.calls: dict[str, dict[int, Any]] = {}
        self.transformers: dict[str, Any] = {}
        self.images: dict[str, Any] = {}
        self.judge: Judge | None = None
        self.loaded: dict[str, Loaded] = {}

    def run(self, contestants: list[Contestant]) -> dict[str, dict[str, Any]]:
        """All of them; together, or one at a time beside the baseline."""
        self.progress("float64 reference")
        self.exact = {batch: exact_output(self.subject, inputs) for batch, inputs in self.inputs.items()}
        self.judge = Judge(self.config, self.subject)
        for contestant in contestants:
            self.results[contestant.key] = _about(contestant) | {"status": "skipped", "note": ""}
            if absent := contestant.missing():
                self.results[contestant.key]["reason"] = f"not installed: {', '.join(absent)}"
            else:
                self._attempt(contestant, self._build)
        gc.collect()
        for contestant in contestants:
            if not self._failed(contestant):
                self._attempt(contestant, self._load)
            if not self._failed(contestant):
                self._attempt(contestant, self._judge)
            if not self.together and not self._failed(contestant) and contestant.key != BASELINE.key:
                self._time([BASELINE.key, contestant.key])
                self.calls.pop(contestant.key, None)
                gc.collect()
        if self.together:
            self._time([contestant.key for contestant in contestants if not self._failed(contestant)])
        elif not self._done(BASELINE):
            self._time([BASELINE.key])
        self.calls.clear()
        if self.config.images:
            self.images = measure_images(self.config, self.subject, self.transformers, self.progress)
        self.transformers.clear()
        gc.collect()
        for contestant in contestants:
            if not self._failed(contestant):
                self._attempt(contestant, self._weigh)
        return self.results

    def _failed(self, contestant: Contestant) -> bool:
        return self.results[contestant.key]["status"] != "measured"

    def _done(self, contestant: Contestant) -> bool:
        """Whether nothing is left to time."""
        return self._failed(contestant) or all("ms" in n for n in self.results[contestant.key]["batches"].values())

    def _attempt(self, contestant: Contestant, stage: Callable[[Contestant], None]) -> None:
        """A stage whose failure is the contestant's result: other people's code may raise anything."""
        result = self.results[contestant.key]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                stage(contestant)
            result["status"] = "measured"
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            stage_name = stage.__name__.strip("_")
            result |= {"status": "failed", "reason": f"{stage_name}: {type(error).__name__}: {first[:300]}"}
            self.progress(f"{contestant.name}: failed, {result['reason']}")

    def _folder(self, contestant: Contestant) -> Path:
        return self.subject.folder / "built" / contestant.built

    def _build(self, contestant: Contestant) -> None:
        folder = self._folder(contestant)
        self.progress(f"{contestant.name}: building")
        record = folder.with_suffix(".json")
        if not record.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            begun = time.perf_counter()
            contestant.build(self.subject, folder)
            record.write_text(json.dumps({"build_s": round(time.perf_counter() - begun, 2)}), encoding="utf-8")
        self.results[contestant.key] |= json.loads(record.read_text(encoding="utf-8")) | {
            "disk_bytes": contestant.disk_bytes(self.subject, folder),
        }

    def _load(self, contestant: Contestant) -> None:
        self.progress(f"{contestant.name}: loading")
        result, begun = self.results[contestant.key], time.perf_counter()
        loaded = contestant.load(self.subject, self._folder(contestant), self.config.threads)
        calls, batches = {}, {}
        for batch, inputs in self.inputs.items():
            calls[batch] = loaded.bind(inputs)
            numbers: dict[str, Any] = {"error": relative_error(calls[batch](), self.exact[batch])}
            if self.config.profile and loaded.profile is not None:
                numbers["profile"] = loaded.profile(inputs, self.config.rounds)
            batches[str(batch)] = numbers
        result |= {
            "note": loaded.note,
            "load_and_compile_s": round(time.perf_counter() - begun, 2),
            "once_ms": self._once(loaded),
            "batches": batches,
        }
        self.calls[contestant.key] = calls
        self.loaded[contestant.key] = loaded
        if self.config.images and (self.together or contestant.key != BASELINE.key) and loaded.transformer is not None:
            self.transformers[contestant.key] = loaded.transformer

    def _judge(self, contestant: Contestant) -> None:
        loaded = self.loaded.pop(contestant.key)
        if self.judge is not None and self.judge.asked:
            self.progress(f"{contestant.name}: quality")
            self.results[contestant.key] |= self.judge.of(loaded)

    def _once(self, loaded: Loaded) -> float:
        """Milliseconds of what one image's sampling run needs once."""
        if loaded.once is None:
            return 0.0
        inputs, seconds = self.subject.inputs(self.config.rows_per_image), []
        for _ in range(3):
            begun = self.clock()
            loaded.once(inputs, self.config.steps)
            seconds.append(self.clock() - begun)
        return round(sorted(seconds)[1] * 1e3, 3)

    def _time(self, keys: list[str]) -> None:
        for batch in self.config.batches:
            self.progress(f"timing batch {batch}: {', '.join(keys)}")
            seconds = time_in_turn({key: self.calls[key][batch] for key in keys}, self.config.rounds, self.clock)
            for key in keys:
                if key == BASELINE.key and len(keys) == 2 and "ms" in self.results[key]["batches"][str(batch)]:
                    continue
                numbers = summary(seconds[key]) | ratio(seconds[BASELINE.key], seconds[key])
                images = batch / self.config.rows_per_image
                numbers["ms_per_image"] = round(
                    self.config.steps * numbers["ms"] / images + self.results[key]["once_ms"], 2
                )
                self.results[key]["batches"][str(batch)] |= numbers

    def _weigh(self, contestant: Contestant) -> None:
        self.progress(f"{contestant.name}: resident memory, in a process of its own")
        self.results[contestant.key]["fresh_process"] = resident_in_a_child(
            contestant.key,
            self.subject.folder,
            self._folder(contestant),
            self.config.batches[0],
            self.config.threads,
        )


def _folder(kept: str | None) -> AbstractContextManager[Path]:
    """A temporary folder, or one that stays."""
    if kept is None:
        return _temporary()
    path = Path(kept)
    path.mkdir(parents=True, exist_ok=True)
    return nullcontext(path)


@contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ptq4dit-speed-") as scratch:
        yield Path(scratch)


def _about(contestant: Contestant) -> dict[str, Any]:
    names = ("name", "label", "execution", "forward")
    return {name: getattr(contestant, name) for name in names}
