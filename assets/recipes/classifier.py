"""Train the small CNN whose features and predictions judge the class-conditional model's pictures.

python assets/recipes/classifier.py
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from dataset import SceneSet
from optimizer import Together
from provenance import ROOT, write_json
from run import Run
from safetensors.torch import save_file
from torch import Tensor, nn
from train_vae import to_signal

sys.path.insert(0, str(ROOT))

from ptq4dit.metrics.classifier import SceneClassifier


def augment(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Add noise and soften at random, so that a generated picture's slight blur is not held against it."""
    if torch.rand((), generator=generator) < 0.5:
        picture = nn.functional.avg_pool2d(nn.functional.pad(picture, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    strength = torch.rand((), generator=generator) * 0.1
    return picture + strength * torch.randn(picture.shape, generator=generator)


class LabelledPictures:
    """Random batches of some rows of a rendered set with an integer array's rows, of the mirror image half the time.

    labels: (scene, 2, ...), the plain picture's and its mirror image's.
    """

    def __init__(self, scenes: SceneSet, rows: Tensor, labels: Tensor, size: int, seed: int):
        self.scenes, self.rows, self.labels, self.size = scenes, rows, labels, size
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self) -> tuple[Tensor, Tensor]:
        """The next augmented batch in [-1, 1], and its labels."""
        g, n = self.generator, self.size
        rows, mirrored = self.rows[torch.randint(len(self.rows), (n,), generator=g)], torch.rand(n, generator=g) < 0.5
        picture = to_signal(torch.from_numpy(self.scenes.pictures(rows.numpy())))
        picture = torch.where(mirrored[:, None, None, None], picture.flip(-1), picture)
        return augment(picture, g), self.labels[rows, mirrored.long()]


def is_inner_kernel(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 4 and min(parameter.shape[:2]) >= 16


def fit(
    model: nn.Module, pictures: LabelledPictures, loss: Callable[[Tensor, Tensor], Tensor], path: Path, minutes: float
) -> Run:
    """Train a network that judges pictures, or go on training it, and leave its averaged weights in it."""
    run = Run(model.train(), Together(model, 2e-3, is_inner_kernel), path, decay=0.99)

    def draw_loss() -> Tensor:
        picture, labels = pictures.draw()
        return loss(model(picture), labels)

    run.train(draw_loss, minutes, 2e-3)
    model.load_state_dict(run.average)
    model.eval()
    return run


@torch.inference_mode()
def accuracy(model: SceneClassifier, scenes: SceneSet) -> float:
    """Of the single things of a set, the part whose class is right."""
    right = []
    for rows in torch.from_numpy(scenes.singles()).split(100):
        logits = model(to_signal(torch.from_numpy(scenes.pictures(rows.numpy()))))
        right.append(logits.argmax(1) == torch.from_numpy(scenes.classes())[rows])
    return float(torch.cat(right).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".build/demo128"))
    parser.add_argument("--minutes", type=float, default=12)
    args = parser.parse_args()
    torch.manual_seed(0)
    scenes, model = SceneSet.open(args.work / "train"), SceneClassifier()
    labels = torch.from_numpy(scenes.classes())[:, None].expand(-1, 2)
    pictures = LabelledPictures(scenes, torch.from_numpy(scenes.singles()), labels, size=64, seed=0)
    run = fit(model, pictures, nn.functional.cross_entropy, args.work / "classifier.pt", args.minutes)
    save_file({k: v.half() for k, v in model.state_dict().items()}, args.work / "classifier.safetensors")
    report = {"steps": run.step, "accuracy_unseen": accuracy(model, SceneSet.open(args.work / "test"))}
    write_json(args.work / "classifier.json", report)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
