"""Calibrate the demo model and report its salience: writes `calibration.safetensors` and `results/salience.json`.

python assets/recipes/calibrate.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from provenance import ROOT, made_by, write_json

sys.path.insert(0, str(ROOT))

import ptq4dit
from ptq4dit.paper.ssc import spearman_rho


def layer_report(stats: ptq4dit.Calibration, layer: str) -> dict[str, float]:
    """How salient a layer's channels are, how complementary, and how much that moves over the timesteps."""
    activation, weight = stats.activation_salience[layer], stats.weight_salience[layer]
    rho = spearman_rho(activation, weight)
    top = activation.amax(dim=0).topk(max(1, activation.shape[1] // 50)).indices
    travel = activation[:, top].amax(dim=0) / activation[:, top].amin(dim=0)
    return {
        "activation_max_over_median": float((activation.amax(dim=1) / activation.median(dim=1).values).mean()),
        "weight_max_over_median": float(weight.max() / weight.median()),
        "rho_mean": float(rho.mean()),
        "rho_min": float(rho.min()),
        "rho_max": float(rho.max()),
        "top_channels_variation_over_time": float(travel.median()),
    }


def show_progress(done: int, of: int) -> None:
    if done % 50 == 0 or done == of:
        print(f"calibration: {done} of {of} steps", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "demo")
    args = parser.parse_args()
    stats = ptq4dit.calibrate(ptq4dit.load(args.model), ptq4dit.CalibrationConfig(), progress=show_progress)
    stats.save(args.model / "calibration.safetensors")
    layers = {layer: layer_report(stats, layer) for layer in stats.layers}
    write_json(
        args.model / "results" / "salience.json",
        {"made": made_by("python assets/recipes/calibrate.py"), "model_fingerprint": stats.model, "layers": layers},
    )
    for layer, numbers in layers.items():
        print(layer, "  ".join(f"{name} {value:.2f}" for name, value in numbers.items()))


if __name__ == "__main__":
    main()
