"""Measure what attention on integers costs in quality: q, k, v and the softmax rounded to 8 bits, or left in float.

    python assets/recipes/attention_cost.py

At W8A8 and W4A8, on the integer backend: the PSNR against full precision of pictures from the same noise, and the
paired difference that rounding the attention makes, with its 95% interval over pictures. No reconstruction.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from provenance import ROOT, made_by, write_json

sys.path.insert(0, str(ROOT))

import torch

import ptq4dit
from ptq4dit.metrics.image import psnr
from ptq4dit.metrics.interval import paired_difference

COMMAND = "python assets/recipes/attention_cost.py"
BITS = (8, 4)
ATTENTION = {"float": 16, "integers": 8}
SEED = 1000


def run(args: argparse.Namespace) -> None:
    """All bits, with the attention in float and on integers."""
    dit = ptq4dit.load(args.model)
    stats = ptq4dit.Calibration.load(args.model / "calibration.safetensors")
    labels = [index % dit.num_classes for index in range(args.pictures)]
    setting = {"backend": "integer", "model_fingerprint": stats.model, "pictures": args.pictures, "seed": SEED}
    setting |= {"steps": args.steps, "guidance_scale": args.guidance}
    content: dict[str, Any] = {"made": made_by(COMMAND) | setting, "psnr": {}}

    def pictures(model: ptq4dit.Dit) -> torch.Tensor:
        return ptq4dit.generate(model, labels, args.steps, args.guidance, SEED)

    reference = pictures(dit)
    for weight in BITS:
        values: dict[str, list[float]] = {}
        for name, bits in ATTENTION.items():
            config = ptq4dit.QuantConfig(
                weight_bits=weight, attention_bits=bits, softmax_bits=bits, backend="integer", weight_range="mse"
            )
            model = ptq4dit.quantize(dit, stats, config)
            values[name] = psnr(pictures(model), reference).tolist()
            apart = paired_difference(values[name], values["float"])
            content["psnr"][f"{config.label}/{name}"] = {
                "runtime": model.transformer.runtime,
                "mean": round(sum(values[name]) / len(labels), 3),
                "minus_float": {end: round(getattr(apart, end), 3) for end in ("mean", "low", "high")},
            }
            print(f"{config.label}/{name}", content["psnr"][f"{config.label}/{name}"], flush=True)
            write_json(args.model / "results" / "attention.json", content)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "demo")
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=4.0)
    run(parser.parse_args())
