"""The small CNN whose features and predictions judge the demo's pictures, and its training.

python assets/recipes/classifier.py
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from provenance import ROOT
from safetensors.torch import save_file
from torch import Tensor, nn
from train_vae import load_images, load_labels, to_signal

sys.path.insert(0, str(ROOT))

from ptq4dit.metrics.classifier import SceneClassifier


@torch.inference_mode()
def accuracy(model: SceneClassifier, images: Tensor, labels: Tensor) -> float:
    right = [(model(to_signal(x)).argmax(1) == y) for x, y in zip(images.split(200), labels.split(200), strict=True)]
    return float(torch.cat(right).float().mean())


def augment(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror, add noise and soften at random, so that a generated picture's slight blur is not held against it."""
    if torch.rand((), generator=generator) < 0.5:
        picture = picture.flip(-1)
    if torch.rand((), generator=generator) < 0.5:
        picture = nn.functional.avg_pool2d(nn.functional.pad(picture, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    strength = torch.rand((), generator=generator) * 0.1
    return picture + strength * torch.randn(picture.shape, generator=generator)


def train(model: SceneClassifier, images: Tensor, labels: Tensor, steps: int, batch: int = 128) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3, fused=True)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 100, 1.5 * (1 - step / steps))
        rows = torch.randint(len(images), (batch,), generator=generator)
        loss = nn.functional.cross_entropy(model(augment(to_signal(images[rows]), generator)), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".build"))
    parser.add_argument("--steps", type=int, default=1000)
    args = parser.parse_args()
    torch.manual_seed(0)
    model = SceneClassifier()
    train_labels, test_labels = (load_labels(args.work / f"{name}.npz") for name in ("train", "test"))
    train(model, load_images(args.work / "train.npz"), train_labels, args.steps)
    unseen = accuracy(model.eval(), load_images(args.work / "test.npz"), test_labels)
    report = {"steps": args.steps, "accuracy_unseen": unseen}
    save_file({k: v.half() for k, v in model.state_dict().items()}, args.work / "classifier.safetensors")
    (args.work / "classifier.json").write_text(json.dumps(report, indent=2))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
