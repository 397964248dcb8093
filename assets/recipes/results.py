"""Make the stored results of the demo model: every picture and number on the Start tab.

python assets/recipes/results.py

For each example (class, seed), bit-width, setting of the salience dial and variant (none, CSB, CSB+SSC): the picture,
its PSNR and SSIM against full precision from the same noise, and the means over a larger set. All of it is simulated
quantization. Saved after each model; run again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from provenance import ROOT, made_by, read_json, write_json

sys.path.insert(0, str(ROOT))

from PIL import Image
from torch import Tensor, cat

import ptq4dit
from ptq4dit import lab
from ptq4dit.config.balancing import VARIANTS
from ptq4dit.metrics.image import psnr, ssim

FORMAT = 1
COMMAND = "python assets/recipes/results.py"
EXAMPLES = ((4, 0), (0, 0), (8, 0), (3, 0), (9, 0), (1, 0))  # (class, seed)
BITS = ((4, 8), (8, 8))
STRENGTHS = (1, 8)
MEAN_SEED = 1000  # the set behind the means takes seeds from here on, apart from those of the examples
BATCH = 16


class Recipe:
    """One run: the float model, its calibration, how pictures are made, and the results so far."""

    def __init__(self, model: Path, steps: int, guidance: float, pictures: int) -> None:
        self.out = model / "results"
        self.file, self.unfinished = self.out / "results.json", self.out / "results.unfinished.json"
        self.steps, self.guidance, self.pictures = steps, guidance, pictures
        self.dit = ptq4dit.load(model)
        self.stats = ptq4dit.Calibration.load(model / "calibration.safetensors")
        self.results = self.resume()

    def run(self) -> None:
        """Full precision, then one quantized model after the other; saved after each, shown once all are there."""
        references = [self.generate(self.dit, [class_id], seed) for class_id, seed in EXAMPLES]
        reference_set = self.generate_set(self.dit)
        for entry, picture in zip(self.results["examples"], references, strict=True):
            entry["full_precision"] = {"file": self.write(picture, entry, "fp")}
        for key, strength, config in jobs():
            if key in self.results["means"]:
                continue
            model = self.quantized(strength, config)
            for entry, reference in zip(self.results["examples"], references, strict=True):
                picture = self.generate(model, [entry["class_id"]], entry["seed"])
                entry["quantized"][key] = {"file": self.write(picture, entry, key), **distance(picture, reference)}
            mean = distance(self.generate_set(model), reference_set)
            self.results["means"][key] = mean | {"pictures": self.pictures}
            write_json(self.unfinished, self.results)
            print(key, mean, flush=True)
        write_json(self.file, self.results)
        self.unfinished.unlink(missing_ok=True)
        self.remove_others()

    def remove_others(self) -> None:
        """Remove pictures of examples that are no more."""
        examples = self.results["examples"]
        pictures = [entry["full_precision"] for entry in examples]
        pictures += [picture for entry in examples for picture in entry["quantized"].values()]
        kept = {self.out / picture["file"] for picture in pictures}
        for path in set(self.out.glob("*/*.webp")) - kept:
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()

    def quantized(self, strength: int, config: ptq4dit.QuantConfig) -> ptq4dit.Dit:
        """The model with its salience raised, function unchanged, then quantized."""
        if strength == 1:
            return ptq4dit.quantize(self.dit, self.stats, config)
        factors = lab.amplification_factors(self.dit.transformer, float(strength))
        raised = lab.amplify_salience(self.dit, float(strength))
        return ptq4dit.quantize(raised, self.stats.rescaled_for(factors, raised.transformer), config)

    def generate(self, model: ptq4dit.Dit, class_labels: list[int], seed: int) -> Tensor:
        """(n, 3, height, width) in [0, 1]."""
        return ptq4dit.generate(model, class_labels, steps=self.steps, guidance_scale=self.guidance, seed=seed)

    def generate_set(self, model: ptq4dit.Dit) -> Tensor:
        """The pictures behind a mean: the classes in turn, a seed for each batch."""
        labels = [i % model.num_classes for i in range(self.pictures)]
        batches = [labels[start : start + BATCH] for start in range(0, self.pictures, BATCH)]
        return cat([self.generate(model, batch, MEAN_SEED + i) for i, batch in enumerate(batches)])

    def write(self, picture: Tensor, entry: dict[str, Any], key: str) -> str:
        """Store a picture losslessly; its path relative to the results."""
        pixels = (picture[0] * 255).round().byte().permute(1, 2, 0).numpy()
        example = f"{entry['class_name']}-{entry['seed']}".replace(" ", "-")
        path = self.out / example / (key.replace("/", "-").replace("+", "-") + ".webp")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        Image.fromarray(pixels).save(partial, format="webp", lossless=True, quality=100, method=6)
        os.replace(partial, path)
        return path.relative_to(self.out).as_posix()

    def resume(self) -> dict[str, Any]:
        """The results so far where they were made in the same way from the same model, else none yet."""
        setting = {
            "backend": "simulated",
            "model_fingerprint": self.stats.model,
            "sampler": type(self.dit.scheduler).__name__,
            "steps": self.steps,
            "guidance_scale": self.guidance,
            "pictures": self.pictures,
            "mean_seed": MEAN_SEED,
            "examples": [list(example) for example in EXAMPLES],
        }
        for file in (self.unfinished, self.file):
            old = read_json(file)
            if old and all(old["made"].get(name) == value for name, value in setting.items()):
                return old
        names = self.dit.id2label
        examples = [{"class_id": c, "class_name": names[c], "seed": s, "quantized": {}} for c, s in EXAMPLES]
        return {"format": FORMAT, "made": made_by(COMMAND) | setting, "examples": examples, "means": {}}


def jobs() -> Iterator[tuple[str, int, ptq4dit.QuantConfig]]:
    """Every quantized model: its key in the file, the dial, the config."""
    for (weight, activation), strength, (name, (csb, ssc)) in product(BITS, STRENGTHS, VARIANTS.items()):
        config = ptq4dit.QuantConfig(weight_bits=weight, activation_bits=activation, csb=csb, ssc=ssc)
        yield f"{config.label}/x{strength}/{name}", strength, config


def distance(pictures: Tensor, references: Tensor) -> dict[str, float]:
    """Mean PSNR in dB and SSIM over pictures, each against its reference."""
    return {
        "psnr": round(psnr(pictures, references).mean().item(), 3),
        "ssim": round(ssim(pictures, references).mean().item(), 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "demo")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--pictures", type=int, default=32, help="behind each mean")
    args = parser.parse_args()
    Recipe(args.model, args.steps, args.guidance, args.pictures).run()


if __name__ == "__main__":
    main()
