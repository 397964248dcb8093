"""Make the stored results of the demo model: every picture and number on the Start tab.

    python assets/recipes/results.py

For each example (class, seed), bit-width, setting of the salience dial and variant (none, CSB, CSB+SSC) it stores the
picture with its PSNR and SSIM against full precision from the same noise, and the means over a larger set. Everything
is simulated quantization. It saves after each model and goes on where it stopped when run again.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from PIL import Image  # noqa: E402

import ptq4dit  # noqa: E402
from ptq4dit import lab  # noqa: E402
from ptq4dit.metrics.image import psnr, ssim  # noqa: E402

FORMAT = 1
EXAMPLES = ((4, 0), (0, 0), (8, 0), (3, 0), (9, 0), (1, 0))
BITS = ((4, 8), (8, 8))
STRENGTHS = (1, 8)
VARIANTS = {"none": (False, False), "csb": (True, False), "csb+ssc": (True, True)}
MEAN_SEED = 1000
BATCH = 16


def main() -> None:
    """Read the command line, make what is missing, write ``results.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "demo")
    parser.add_argument("--out", type=Path, help="default: results/ in the model's folder")
    parser.add_argument("--pictures", type=int, default=64, help="pictures behind each mean")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=4.0)
    args = parser.parse_args()
    Recipe(args.model, args.out or args.model / "results", args.pictures, args.steps, args.guidance).run()


class Recipe:
    """One run: the float model, its calibration, and the results so far."""

    def __init__(self, model: Path, out: Path, pictures: int, steps: int, guidance: float) -> None:
        self.out, self.pictures, self.steps, self.guidance = out, pictures, steps, guidance
        self.dit = ptq4dit.load(str(model))
        self.stats = ptq4dit.Calibration.load(model / "calibration.safetensors")
        self.results = self._resume(self._made(model))

    def run(self) -> None:
        """Full precision first, then one quantized model at a time; saved after each."""
        names = self.dit.id2label
        float_examples = [self._picture(self.dit, c, s) for c, s in EXAMPLES]
        float_set = self._set(self.dit)
        for (class_id, seed), picture in zip(EXAMPLES, float_examples, strict=True):
            file = self._write(picture, class_id, seed, "fp")
            entry = {"class_id": class_id, "class_name": names[class_id], "seed": seed, "quantized": {}}
            if not any(e["class_id"] == class_id and e["seed"] == seed for e in self.results["examples"]):
                self.results["examples"].append({**entry, "full_precision": {"file": file}})
        for key, config, strength in self._jobs():
            if key in self.results["means"]:
                continue
            model = self._quantized(config, strength)
            self._store_examples(model, key, float_examples)
            self.results["means"][key] = self._distance(self._set(model), float_set)
            self._save()
            print(f"{key}: {self.results['means'][key]}", flush=True)

    def _jobs(self) -> Iterator[tuple[str, ptq4dit.QuantConfig, int]]:
        for (weight, activation), strength, (name, (csb, ssc)) in product(BITS, STRENGTHS, VARIANTS.items()):
            config = ptq4dit.QuantConfig(weight_bits=weight, activation_bits=activation, csb=csb, ssc=ssc)
            yield f"W{weight}A{activation}/x{strength}/{name}", config, strength

    def _quantized(self, config: ptq4dit.QuantConfig, strength: int) -> ptq4dit.Dit:
        if strength == 1:
            return ptq4dit.quantize(self.dit, self.stats, config)
        factors = lab.amplification_factors(self.dit.transformer, float(strength))
        amplified = lab.amplify_salience(self.dit, float(strength))
        return ptq4dit.quantize(amplified, self.stats.rescaled(factors, amplified.transformer), config)

    def _picture(self, model: ptq4dit.Dit, class_id: int, seed: int) -> torch.Tensor:
        return ptq4dit.generate(
            model, class_labels=[class_id], steps=self.steps, guidance_scale=self.guidance, seed=seed
        )

    def _set(self, model: ptq4dit.Dit) -> torch.Tensor:
        """(pictures, 3, height, width): classes in turn, seeds apart from those of the examples."""
        labels = [i % model.num_classes for i in range(self.pictures)]
        chunks = [labels[i : i + BATCH] for i in range(0, self.pictures, BATCH)]
        return torch.cat(
            [
                ptq4dit.generate(
                    model, class_labels=chunk, steps=self.steps, guidance_scale=self.guidance, seed=MEAN_SEED + i
                )
                for i, chunk in enumerate(chunks)
            ]
        )

    def _store_examples(self, model: ptq4dit.Dit, key: str, float_examples: list[torch.Tensor]) -> None:
        for entry, reference in zip(self.results["examples"], float_examples, strict=True):
            picture = self._picture(model, entry["class_id"], entry["seed"])
            distance = self._distance(picture, reference)
            file = self._write(picture, entry["class_id"], entry["seed"], key.replace("/", "-").replace("+", "-"))
            entry["quantized"][key] = {"file": file, "psnr": distance["psnr"], "ssim": distance["ssim"]}

    def _distance(self, pictures: torch.Tensor, reference: torch.Tensor) -> dict[str, Any]:
        return {
            "psnr": round(psnr(pictures, reference).mean().item(), 3),
            "ssim": round(ssim(pictures, reference).mean().item(), 5),
            "pictures": len(pictures),
        }

    def _write(self, picture: torch.Tensor, class_id: int, seed: int, name: str) -> str:
        pixels = (picture[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        file = f"{self.dit.id2label[class_id].replace(' ', '-')}-{seed}/{name}.webp"
        path = self.out / file
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        Image.fromarray(pixels).save(temporary, format="webp", lossless=True, quality=100, method=6)
        os.replace(temporary, path)
        return file

    def _made(self, model: Path) -> dict[str, Any]:
        return {
            "command": "python assets/recipes/results.py",
            "commit": _commit(),
            "date": datetime.date.today().isoformat(),
            "hardware": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
            "backend": "simulated",
            "model": model.name,
            "model_fingerprint": str(self.stats.model),
            "sampler": type(self.dit.scheduler).__name__,
            "steps": self.steps,
            "guidance_scale": self.guidance,
            "pictures": self.pictures,
            "mean_seed": MEAN_SEED,
            "examples": [list(e) for e in EXAMPLES],
        }

    def _resume(self, made: dict[str, Any]) -> dict[str, Any]:
        """The results so far when they were made the same way, else a fresh start."""
        fresh: dict[str, Any] = {"format": FORMAT, "made": made, "examples": [], "means": {}}
        file = self.out / "results.json"
        if not file.is_file():
            return fresh
        old = json.loads(file.read_text())
        same = {k: v for k, v in made.items() if k not in ("commit", "date", "hardware")}
        return old if all(old["made"].get(k) == v for k, v in same.items()) else fresh

    def _save(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        temporary = self.out / "results.json.part"
        temporary.write_text(json.dumps(self.results, indent=1) + "\n")
        os.replace(temporary, self.out / "results.json")


def _commit() -> str:
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return answer.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
