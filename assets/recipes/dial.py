"""Measure the salience dial: mean PSNR and SSIM against full precision at every strength, for three bit-widths.

Simulated quantization; salience x N, function unchanged. Saved after each model; run again, it resumes.

    python assets/recipes/dial.py
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import Any

from provenance import ROOT, made_by, read_json, write_json
from results import VARIANTS, Recipe, distance, ptq4dit

BITS = ((8, 8), (8, 6), (4, 8))
STRENGTHS = (1, 2, 4, 8, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "demo")
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=4.0)
    args = parser.parse_args()
    recipe = Recipe(args.model, args.steps, args.guidance, args.pictures)
    out = args.model / "results" / "dial.json"
    setting = {"backend": "simulated", "model_fingerprint": recipe.stats.model, "pictures": args.pictures}
    setting |= {"steps": args.steps, "guidance_scale": args.guidance}
    report: dict[str, Any] = {**setting, "made": made_by("python assets/recipes/dial.py"), "means": {}}
    before = read_json(out)
    if all(before.get(name) == value for name, value in setting.items()):
        report["means"] = before["means"]
    reference = recipe.generate_set(recipe.dit)
    for (weight, activation), strength, (name, (csb, ssc)) in product(BITS, STRENGTHS, VARIANTS.items()):
        key = f"W{weight}A{activation}/x{strength}/{name}"
        if key not in report["means"]:
            config = ptq4dit.QuantConfig(weight_bits=weight, activation_bits=activation, csb=csb, ssc=ssc)
            report["means"][key] = distance(recipe.generate_set(recipe.quantized(strength, config)), reference)
            write_json(out, report)
            print(key, report["means"][key], flush=True)


if __name__ == "__main__":
    main()
