"""Work out ahead what Inspect would have to search for at each change of bits: rounding.npz and rounding.json.

python assets/recipes/rounding.py

For every setting of the salience dial, bit-width, way of balancing and layer of the demo model: how far the range of
each weight row is clipped (fiftieths of its lower and upper end), and the relative error of the layer's output,
simulated, at every width of the activations. Saved after each setting of the dial; run again, it goes on.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
from provenance import ROOT, made_by, read_json, write_json

sys.path.insert(0, str(ROOT))

import ptq4dit
from app.services import rounding
from app.services.models import explored
from app.services.sites import variants_of
from app.state import BITS, STRENGTHS
from ptq4dit.config.quantization import FLOAT_BITS
from ptq4dit.numerics.affine import least_squares_range, value_range
from ptq4dit.quantized.operands import energies, layer_operands
from ptq4dit.quantized.weight import expand_weight, round_weight, weight_spec

MODEL = "demo"
RESULTS = ROOT / "assets" / "demo" / "results"
ABOUT, ARRAYS = RESULTS / rounding.ABOUT, RESULTS / rounding.ARRAYS
WIDTHS = [bits for bits in BITS if bits != FLOAT_BITS]


def clipping(weight: torch.Tensor, bits: int) -> np.ndarray:
    """(2, d_out) fiftieths that the search for the least squared error leaves of each row's range."""
    spec = weight_spec(ptq4dit.QuantConfig(weight_bits=bits).layer("blocks.0.qkv"))
    grouped = weight[:, None]
    ends = value_range(grouped, spec)
    found = least_squares_range(grouped, *ends, spec)
    shares = [(one / end).nan_to_num(1.0).flatten() for one, end in zip(found, ends, strict=True)]
    return (rounding.WHOLE * torch.stack(shares)).round().to(torch.uint8).numpy()


def errors_of(layer: str, strength: int, found: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Bits -> error of one layer with each way of balancing, nan for none; adds the layer's clippings to `found`."""
    model, errors = explored(MODEL, strength), {f"W{w}A{a}": [float("nan")] * 3 for w, a in product(BITS, BITS)}
    for way, variant in enumerate(variants_of(MODEL, layer)):
        inputs = {a: operands(model, layer, variant, a) for a in BITS}
        exact = operands(model, layer, "none", FLOAT_BITS)
        weights = {FLOAT_BITS: inputs[FLOAT_BITS].weight}
        for bits in WIDTHS:
            settings = ptq4dit.QuantConfig(weight_bits=bits).layer(layer)
            weight, key = inputs[bits].weight, f"x{strength}/W{bits}/{variant}/{layer}"
            found[key] = clipping(weight, bits)
            scale, zero_point = rounding.clipped_grid(weight, settings, found[key])
            weights[bits] = expand_weight(round_weight(weight, scale, zero_point, bits), scale, zero_point)
        for w, a in product(BITS, BITS):
            one = replace(inputs[a], rounded_weight=weights[w])
            wrong, right = energies(exact, one)
            errors[f"W{w}A{a}"][way] = float(wrong.sum() / right.sum())
    return errors


def operands(model: Any, layer: str, variant: str, activation_bits: int) -> Any:
    """The layer's operands with its input rounded and its weight as it is."""
    config = ptq4dit.QuantConfig(weight_bits=FLOAT_BITS, activation_bits=activation_bits)
    return layer_operands(model.dit.transformer, model.stats, layer, config, variant)


def main() -> None:
    stats = explored(MODEL).stats
    calibration = rounding.calibration_digest(RESULTS.parent / "calibration.safetensors")
    made = made_by(rounding.COMMAND) | {"backend": "simulated", "calibration": calibration}
    made["model_fingerprint"] = stats.model
    known = read_json(ABOUT).get("made", {}).get("calibration") == made["calibration"]
    found: dict[str, np.ndarray] = dict(np.load(ARRAYS)) if known else {}
    layers = list(stats.layers)
    for strength in STRENGTHS:
        if f"errors/x{strength}/W4A8" in found:
            continue
        errors = [errors_of(layer, strength, found) for layer in layers]
        for bits in errors[0]:
            found[f"errors/x{strength}/{bits}"] = np.array([one[bits] for one in errors], np.float32)
        np.savez_compressed(ARRAYS, **found)
        write_json(ABOUT, {"made": made, "layers": layers})
        print(f"salience x {strength}: done")


if __name__ == "__main__":
    main()
