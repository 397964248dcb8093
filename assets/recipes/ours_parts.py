"""Measure which part of "ours" brings what, at 4-bit weights, on many pictures.

    python assets/recipes/ours_parts.py

From PTQ4DiT with the benchmark's reconstruction, one change at a time: more images to learn from, which with 6-bit
activations is ours, then the error of what guidance makes of the two halves, which with 8-bit ones is ours.
Neither adds anything at inference. PSNR to full precision from the same noise, the difference paired by picture with
its 95% interval. The pictures are drawn on the integer backend: it is what makes so many of them cheap. Saved after
each; run again, it makes the missing ones.
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
from ptq4dit.metrics.image import psnr
from ptq4dit.metrics.interval import paired_difference
from ptq4dit.reconstruction.run import training_data

COMMAND = "python assets/recipes/ours_parts.py"
BITS = ((4, 8), (4, 6))
BASE = "PTQ4DiT"
SEED = 3000
PARTS: dict[str, tuple[str, ptq4dit.ReconstructionConfig]] = {
    BASE: ("ptq4dit", BenchmarkConfig().reconstruction),
    "+ more images": ("ptq4dit", dataclasses.replace(RECONSTRUCTION, objective="samples")),
    "+ guided error": ("ptq4dit", RECONSTRUCTION),
}
"""Name -> method and reconstruction; each row keeps what the rows before it added."""


def pictures(model: ptq4dit.Dit, count: int, steps: int, guidance: float) -> torch.Tensor:
    """Classes in turn, a batch at a time."""
    labels = [index % model.num_classes for index in range(count)]
    parts = []
    for start in range(0, count, 16):
        *_, last = ptq4dit.denoise(model, labels[start : start + 16], steps, guidance, SEED, first_index=start)
        parts.append(ptq4dit.decode(model, last.latents))
    return torch.cat(parts)


def missing(results: dict[str, Any]) -> Iterator[tuple[str, str, ptq4dit.QuantConfig]]:
    """Key, part and config of what is not measured yet."""
    for name, (method, reconstruction) in PARTS.items():
        for weight, activation in BITS:
            config = ptq4dit.QuantConfig(
                method=method, weight_bits=weight, activation_bits=activation, reconstruction=reconstruction
            )
            if f"{config.label}/{name}" not in results:
                yield f"{config.label}/{name}", name, config


def run(args: argparse.Namespace) -> None:
    """All parts and bits."""
    out = args.model / "results" / "ours_parts.json"
    dit = ptq4dit.load(args.model)
    stats = ptq4dit.Calibration.load(args.model / "calibration.safetensors")
    content = read_json(out)
    results = content.get("results", {}) if content.get("pictures") == args.pictures else {}
    setting = {"backend": "integer", "model_fingerprint": stats.model, "pictures": args.pictures, "seed": SEED}
    setting |= {"steps": args.steps, "guidance_scale": args.guidance}
    reference = pictures(dit, args.pictures, args.steps, args.guidance)
    data: dict[int, ptq4dit.Trajectories] = {}
    for key, name, config in missing(results):
        settings = config.reconstruction
        if settings.images not in data:
            data[settings.images] = training_data(dit, stats.config, settings)
        begun = time.process_time()
        model = ptq4dit.quantize(dit, stats, config, data=data[settings.images])
        seconds = time.process_time() - begun
        drawn = pictures(ptq4dit.with_backend(model, "integer"), args.pictures, args.steps, args.guidance)
        each = psnr(drawn, reference).clamp(max=100).tolist()
        base = results.get(key.replace(name, BASE), {"psnr_each": each})
        apart = paired_difference(each, base["psnr_each"])
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
    parser.add_argument("--pictures", type=int, default=160)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=4.0)
    run(parser.parse_args())
