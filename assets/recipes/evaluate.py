"""Measure the demo model: class accuracy, Frechet distance and its floor, the autoencoder's PSNR; draw the sample grid.

Frechet distances are in the features of the demo's own classifier, so they compare with each other only, not with
published FIDs. Writes `results/quality.json` and `samples.webp` in the model's folder.

    python assets/recipes/evaluate.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from dataset import render_singles
from PIL import Image
from provenance import ROOT, made_by, of_model, write_json
from solids import CLASSES
from torch import Tensor
from train_vae import measure

sys.path.insert(0, str(ROOT))

import ptq4dit
from ptq4dit.metrics.classifier import SceneClassifier, judge, load_classifier
from ptq4dit.metrics.frechet import frechet_distance

UNSEEN_SEED = 2  # training rendered seed 0, the training scripts' own checks seed 1


def draw(dit: ptq4dit.Dit, count: int, steps: int, guidance: float, seed: int, batch: int = 50) -> Tensor:
    """`count` pictures, classes in turn: (count, 3, height, width) in [0, 1]."""
    parts = []
    for start in range(0, count, batch):
        labels = [index % len(CLASSES) for index in range(start, min(start + batch, count))]
        *_, last = ptq4dit.denoise(dit, labels, steps, guidance, seed, first_index=start)
        parts.append(ptq4dit.decode(dit, last.latents))
        print(f"{start + len(labels)} of {count} pictures", flush=True)
    return torch.cat(parts)


def sample_grid(pictures: Tensor, columns: int = 10) -> Image.Image:
    """One row a class, `columns` pictures each; expects classes in turn."""
    rows = [torch.cat(list(pictures[c :: len(CLASSES)][:columns]), dim=2) for c in range(len(CLASSES))]
    return Image.fromarray((torch.cat(rows, dim=1) * 255).round().byte().permute(1, 2, 0).numpy())


def quality(dit: ptq4dit.Dit, model: SceneClassifier, pictures: Tensor) -> dict[str, Any]:
    """The bars, on generated pictures against 2 n unseen rendered ones."""
    count = len(pictures)
    unseen, _ = render_singles(2 * count, UNSEEN_SEED)
    real = torch.from_numpy(unseen).float() / 255
    real = real[torch.randperm(len(real), generator=torch.Generator().manual_seed(0))]
    features, _, logits = judge(model, pictures)
    real_features, _, _ = judge(model, real)
    right = logits.argmax(1) == torch.arange(count) % len(CLASSES)
    return {
        "class_accuracy": float(right.float().mean()),
        "class_accuracy_each": {name: float(right[c :: len(CLASSES)].float().mean()) for c, name in enumerate(CLASSES)},
        "frechet_generated_real": frechet_distance(features, real_features[:count]),
        "frechet_real_real": frechet_distance(real_features[count:], real_features[:count]),
        "vae": measure(dit.vae, torch.from_numpy(unseen[:2000])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "demo")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    dit = ptq4dit.load(args.model)
    pictures = draw(dit, args.count, args.steps, args.guidance, args.seed)
    sample_grid(pictures).save(args.model / "samples.webp", quality=92)
    sampling = {name: getattr(args, name) for name in ("count", "steps", "guidance", "seed")}
    report = (
        of_model(dit.transformer) | made_by("python assets/recipes/evaluate.py") | sampling | {"precision": "float32"}
    )
    report |= quality(dit, load_classifier(args.model / "classifier" / "model.safetensors"), pictures)
    write_json(args.model / "results" / "quality.json", report)
    print(report)


if __name__ == "__main__":
    main()
