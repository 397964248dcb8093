"""Measure what it matters how SSC makes one activation salience of many: the paper's way, the released code's, others.

    python assets/recipes/ssc_ways.py

For each way (`per_timestep` is the paper's eq. 10, `per_sample` what the released code does, `mean` and `max` over the
timesteps): how far its balance factors are from the paper's, relatively, over all channels of all balanced layers; and
the PSNR against full precision of pictures from the same noise, with the paired difference from the paper's way and its
95% interval over pictures. Salience x N: function unchanged; each twin is calibrated by itself, with the demo's own
settings. Simulated quantization, no reconstruction.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, get_args

from provenance import ROOT, made_by, write_json

sys.path.insert(0, str(ROOT))

import torch

import ptq4dit
from ptq4dit import lab
from ptq4dit.config.quantization import TimestepSalience
from ptq4dit.metrics.image import psnr
from ptq4dit.metrics.interval import paired_difference
from ptq4dit.quantized.balance import model_factors

COMMAND = "python assets/recipes/ssc_ways.py"
WAYS: tuple[str, ...] = get_args(TimestepSalience)
PAPER = WAYS[0]
BITS = ((4, 8), (8, 8))
STRENGTHS = (1, 8)
SEED = 1000


def twin(dit: ptq4dit.Dit, own: ptq4dit.Calibration, strength: int) -> tuple[ptq4dit.Dit, ptq4dit.Calibration]:
    """The model with its salience raised, and its calibration, observed: samples' own rho cannot be rescaled."""
    if strength == 1:
        return dit, own
    raised = lab.amplify_salience(dit, float(strength))
    return raised, ptq4dit.calibrate(raised, own.config)


def factor_difference(dit: ptq4dit.Dit, stats: ptq4dit.Calibration, way: str) -> dict[str, float]:
    """`|b / b_paper - 1|` over channels of all balanced layers: mean, median and largest."""
    layers = ptq4dit.balanced_layers(dit.transformer)
    paper, other = (
        torch.cat(list(model_factors(stats, layers, ptq4dit.QuantConfig(timestep_salience=name)).values()))
        for name in (PAPER, way)
    )
    apart = (other / paper - 1).abs()
    return {name: float(f"{float(value):.4g}") for name, value in _spread(apart).items()}


def _spread(values: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"mean": values.mean(), "median": values.median(), "largest": values.max()}


def run(args: argparse.Namespace) -> None:
    """All ways, bits and strengths."""
    dit = ptq4dit.load(args.model)
    own = ptq4dit.Calibration.load(args.model / "calibration.safetensors")
    labels = [index % dit.num_classes for index in range(args.pictures)]
    setting = {"backend": "simulated", "model_fingerprint": own.model, "pictures": args.pictures, "seed": SEED}
    setting |= {"steps": args.steps, "guidance_scale": args.guidance, "calibration": own.config.to_json()}
    content: dict[str, Any] = {"made": made_by(COMMAND) | setting, "factors": {}, "psnr": {}}

    def pictures(model: ptq4dit.Dit) -> torch.Tensor:
        return ptq4dit.generate(model, labels, args.steps, args.guidance, SEED)

    reference = pictures(dit)
    for strength in STRENGTHS:
        raised, stats = twin(dit, own, strength)
        for way in WAYS:
            content["factors"][f"x{strength}/{way}"] = factor_difference(raised, stats, way)
        for weight, activation in BITS:
            values: dict[str, list[float]] = {}
            for way in WAYS:
                config = ptq4dit.QuantConfig(weight_bits=weight, activation_bits=activation, timestep_salience=way)
                values[way] = psnr(pictures(ptq4dit.quantize(raised, stats, config)), reference).tolist()
                apart = paired_difference(values[way], values[PAPER])
                key = f"x{strength}/{config.label}/{way}"
                content["psnr"][key] = {
                    "mean": round(sum(values[way]) / len(labels), 3),
                    "minus_paper": {name: round(getattr(apart, name), 3) for name in ("mean", "low", "high")},
                }
                print(key, content["psnr"][key], flush=True)
                write_json(args.model / "results" / "ssc_ways.json", content)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "demo")
    parser.add_argument("--pictures", type=int, default=10)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=4.0)
    run(parser.parse_args())
