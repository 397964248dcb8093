"""Measure which part of "ours" brings what, at 4-bit weights, on many pictures.

    python assets/recipes/ours_parts.py

From PTQ4DiT with the benchmark's reconstruction, one change at a time, until it is ours. Nothing is added to a sampling
step. PSNR to full precision from the same noise, the difference paired by picture with its 95% interval.
The models draw on the integer backend, which is what makes so many pictures cheap. Saved after each; run again, it
makes the missing ones.
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

sys.path.insert(0, str(ROOT))

import torch

import ptq4dit
from ptq4dit.benchmark.config import BenchmarkConfig
from ptq4dit.methods.ours import RECONSTRUCTION
from ptq4dit.methods.registry import METHODS
from ptq4dit.metrics.image import psnr
from ptq4dit.metrics.interval import paired_difference
from ptq4dit.reconstruction.run import training_data

COMMAND = "python assets/recipes/ours_parts.py"
BASE, OURS = "PTQ4DiT", "ours"
SEED = 3000
CLOSED = dataclasses.replace(RECONSTRUCTION, objective="samples", steps=0, activation_ends=False)
ENDS = dataclasses.replace(CLOSED, activation_ends=True)
PARTS: dict[str, dict[str, dict[str, Any]]] = {
    "W4A8": {
        BASE: {"reconstruction": BenchmarkConfig().reconstruction},
        "+ more images": {"reconstruction": CLOSED},
        "+ guided error": {"reconstruction": dataclasses.replace(CLOSED, objective="guided")},
        OURS: {"method": "ours"},
    },
    "W4A6": {
        BASE: {"reconstruction": BenchmarkConfig().reconstruction},
        "+ more images": {"reconstruction": CLOSED},
        "+ both ends": {"reconstruction": ENDS},
        OURS: {"method": "ours"},
    },
}
"""Bits -> name -> settings; each row keeps what the rows before it added. Ours adds AdaRound, and at W4A8 both ends."""


def pictures(model: ptq4dit.Dit, count: int, steps: int, guidance: float) -> torch.Tensor:
    """Classes in turn, a batch at a time."""
    labels = [index % model.num_classes for index in range(count)]
    parts = []
    for start in range(0, count, 16):
        *_, last = ptq4dit.denoise(model, labels[start : start + 16], steps, guidance, SEED, first_index=start)
        parts.append(ptq4dit.decode(model, last.latents))
    return torch.cat(parts)


def missing(results: dict[str, Any], wanted: list[str]) -> Iterator[tuple[str, str, ptq4dit.QuantConfig]]:
    """Bits, part and config of what is not measured yet."""
    for bits in wanted:
        for name, settings in PARTS[bits].items():
            if f"{bits}/{name}" not in results:
                weight, activation = int(bits[1]), int(bits[3])
                yield bits, name, ptq4dit.QuantConfig(weight_bits=weight, activation_bits=activation, **settings)


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
    reference = pictures(dit, args.pictures, args.steps, args.guidance)
    data: dict[int, ptq4dit.Trajectories] = {}
    for bits, name, config in missing(results, args.bits):
        key, settings = f"{bits}/{name}", METHODS[config.method].prepare(config).reconstruction
        if settings.images not in data:
            data[settings.images] = training_data(dit, stats.config, settings)
        begun = time.process_time()
        model = ptq4dit.quantize(dit, stats, config, data=data[settings.images])
        seconds = time.process_time() - begun
        drawn = pictures(ptq4dit.with_backend(model, "integer"), args.pictures, args.steps, args.guidance)
        each = psnr(drawn, reference).clamp(max=100).tolist()
        base = results.get(f"{bits}/{BASE}", {"psnr_each": each})
        apart = paired_difference(each, base["psnr_each"])
        results = read_json(out).get("results", {}) if results else {}  # another run may have measured other bits
        results[key] = {
            "psnr": round(sum(each) / len(each), 3),
            "minus_base": {part: round(getattr(apart, part), 3) for part in ("mean", "low", "high")},
            "cpu_seconds": round(seconds, 1),
            "psnr_each": [round(value, 2) for value in each],
        }
        print(key, {k: v for k, v in results[key].items() if k != "psnr_each"}, flush=True)
        write_json(out, {"made": made_by(COMMAND) | setting, "pictures": args.pictures, "results": results})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "demo")
    parser.add_argument("--bits", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--pictures", type=int, default=160)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=4.0)
    run(parser.parse_args())
