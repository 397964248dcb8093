"""Measure which part of "ours" brings what, at 4-bit weights, on many pictures.

    python assets/recipes/ours_parts.py

From PTQ4DiT with the benchmark's reconstruction, one change at a time, until it is ours; and PTQ4DiT with the paper's:
AdaRound in every block. Nothing is added to a sampling step. PSNR to full precision from the same noise, the difference
paired by picture with its 95% interval. The models draw on the integer backend, which is what makes so many pictures
cheap. AdaRound takes hours; it goes on after its last whole block. Saved after each; run again, it makes the missing
ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from provenance import ROOT, made_by, read_json, write_json
from reconstruction_curve import WAYS

sys.path.insert(0, str(ROOT))

import ptq4dit
from ptq4dit.benchmark.config import BenchmarkConfig
from ptq4dit.benchmark.measure import draw
from ptq4dit.methods.ours import RECONSTRUCTION
from ptq4dit.methods.registry import METHODS
from ptq4dit.metrics.image import psnr
from ptq4dit.metrics.interval import paired_difference
from ptq4dit.reconstruction.training import training_data

COMMAND = "python assets/recipes/ours_parts.py"
BASE, PUBLISHED, OURS = "PTQ4DiT", "PTQ4DiT, AdaRound", "ours"
SEED = 3000
CLOSED = dataclasses.replace(RECONSTRUCTION, objective="samples", steps=0, activation_ends=False)
ENDS = dataclasses.replace(CLOSED, activation_ends=True)
ADAROUND: dict[str, Any] = {
    "activation_range": "percentile",
    "reconstruction": dataclasses.replace(WAYS["AdaRound, a quarter of the steps"].config, sampling_steps=50),
}
"""The paper's ranges, images and AdaRound, in a quarter of its steps at four times its rates.

That leaves a block the error that 20,000 steps leave it (``reconstruction_curve.py``).
"""
PARTS: dict[str, dict[str, dict[str, Any]]] = {
    "W4A8": {
        BASE: {"reconstruction": BenchmarkConfig().reconstruction},
        PUBLISHED: ADAROUND,
        "+ more images": {"reconstruction": CLOSED},
        "+ guided error": {"reconstruction": dataclasses.replace(CLOSED, objective="guided")},
        OURS: {"method": "ours"},
    },
    "W4A6": {
        BASE: {"reconstruction": BenchmarkConfig().reconstruction},
        PUBLISHED: ADAROUND,
        "+ more images": {"reconstruction": CLOSED},
        "+ both ends": {"reconstruction": ENDS},
        "+ 500 steps": {"reconstruction": dataclasses.replace(RECONSTRUCTION, objective="samples")},
        OURS: {"method": "ours"},
    },
}
"""Bits -> name -> settings; each row with a plus keeps what those before it added.

Ours adds 500 steps of AdaRound and both ends at W4A8, 1,500 steps instead of 500 at W4A6.
"""


class Stopwatch:
    """Processor seconds of a quantization, those of the runs before it that were stopped included."""

    def __init__(self, path: Path) -> None:
        self.path, self.begun = path, time.process_time()
        self.before = self.saved = read_json(path).get("seconds", 0.0)

    def read(self) -> float:
        """Seconds so far."""
        return self.before + time.process_time() - self.begun

    def progress(self, done: int, total: int, left: float) -> None:
        """Keep the time every minute and at the end, and say how far it is."""
        if self.read() - self.saved > 60 or done == total:
            self.saved = self.read()
            write_json(self.path, {"seconds": self.saved})
            print(f"{self.path.stem}: {done} of {total}, {left / 60:.0f} minutes left", flush=True)


def missing(
    results: dict[str, Any], wanted: list[str], parts: list[str] | None
) -> Iterator[tuple[str, str, ptq4dit.QuantConfig]]:
    """Bits, part and config of what is not measured yet."""
    for bits in wanted:
        for name, settings in PARTS[bits].items():
            if f"{bits}/{name}" not in results and (parts is None or name in parts):
                weight, activation = int(bits[1]), int(bits[3])
                yield bits, name, ptq4dit.QuantConfig(weight_bits=weight, activation_bits=activation, **settings)


def in_order(results: dict[str, Any]) -> dict[str, Any]:
    """The rows as `PARTS` has them."""
    keys = [f"{bits}/{name}" for bits, parts in PARTS.items() for name in parts]
    return {key: results[key] for key in keys if key in results}


def run(args: argparse.Namespace) -> None:
    """All parts and bits."""
    out = args.model / "results" / "ours_parts.json"
    dit = ptq4dit.load(args.model)
    stats = ptq4dit.Calibration.load(args.model / "calibration.safetensors")
    content = read_json(out)
    results = content.get("results", {}) if content.get("pictures") == args.pictures else {}
    setting = {"backend": "integer", "model_fingerprint": stats.model}
    setting |= {"pictures": args.pictures, "seed": SEED}
    setting |= {"steps": args.steps, "guidance_scale": args.guidance}
    drawing = BenchmarkConfig(pictures=args.pictures, steps=args.steps, guidance_scale=args.guidance)
    reference = draw(dit, drawing, SEED).pictures
    data: dict[int, ptq4dit.Trajectories] = {}
    for bits, name, config in missing(results, args.bits, args.parts):
        key, settings = f"{bits}/{name}", METHODS[config.method].prepare(config).reconstruction
        if settings.images not in data:
            data[settings.images] = training_data(dit, stats.config, settings, folder=args.state)
        watch = Stopwatch(args.state / f"{bits} {name}.json")
        model = ptq4dit.quantize(
            dit, stats, config, data=data[settings.images], progress=watch.progress, folder=args.state
        )
        seconds = watch.read()
        drawn = draw(ptq4dit.with_backend(model, "integer"), drawing, SEED).pictures
        each = psnr(drawn, reference).clamp(max=100).tolist()
        base = results.get(f"{bits}/{BASE}", {"psnr_each": each})
        apart = paired_difference(each, base["psnr_each"])
        results = read_json(out).get("results", {}) if results else {}  # another run may have measured other bits
        results[key] = {
            "psnr": round(sum(each) / len(each), 3),
            "minus_base": {part: round(getattr(apart, part), 3) for part in ("mean", "low", "high")},
            "cpu_seconds": round(seconds, 1),
            "commit": made_by(COMMAND)["commit"],
            "psnr_each": [round(value, 2) for value in each],
        }
        print(key, {k: v for k, v in results[key].items() if k != "psnr_each"}, flush=True)
        write_json(out, {"made": made_by(COMMAND) | setting, "pictures": args.pictures, "results": in_order(results)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "demo")
    parser.add_argument("--bits", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--parts", nargs="+", help="names of rows; all if not given")
    parser.add_argument("--state", type=Path, default=ROOT / ".build/ours_parts", help="where whole blocks are kept")
    parser.add_argument("--pictures", type=int, default=160)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=4.0)
    run(parser.parse_args())
