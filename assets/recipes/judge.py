"""The network that names what a picture shows, attribute by attribute, and its training.

It judges the text-to-image model: what its pictures show against what their captions say.

    python assets/recipes/judge.py
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import torch
from classifier import LabelledPictures, fit
from dataset import SceneSet
from provenance import write_json
from safetensors.torch import save_file
from scenes import ATTRIBUTES, UNSEEN
from torch import Tensor, nn
from train_vae import to_signal

WIDTHS = (32, 64, 96, 128)  # of the maps of 64, 32, 16 and 8 pixels
HIDDEN = 256


class SceneJudge(nn.Module):
    """Pictures in [-1, 1], (n, 3, 128, 128) -> logits of all attributes' values side by side, (n, values).

    The last maps are flattened, not averaged: left and right are told apart by where they are.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wide_in, wide_out in pairwise((3, *WIDTHS)):
            layers += [nn.Conv2d(wide_in, wide_out, 3, stride=2, padding=1), nn.GroupNorm(8, wide_out), nn.GELU()]
            if wide_in > 3:
                layers += [nn.Conv2d(wide_out, wide_out, 3, padding=1), nn.GroupNorm(8, wide_out), nn.GELU()]
        self.body = nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten())
        self.hidden = nn.Linear(WIDTHS[-1] * 16, HIDDEN)
        self.head = nn.Linear(HIDDEN, sum(len(values) for values in ATTRIBUTES.values()))

    def forward(self, picture: Tensor) -> Tensor:
        return self.head(nn.functional.gelu(self.hidden(self.body(picture))))


def by_attribute(logits: Tensor) -> dict[str, Tensor]:
    """The judge's logits (n, values) apart for every attribute."""
    parts = logits.split([len(values) for values in ATTRIBUTES.values()], dim=-1)
    return dict(zip(ATTRIBUTES, parts, strict=True))


def judge_loss(logits: Tensor, attributes: Tensor) -> Tensor:
    """Cross-entropy summed over attributes (n, attribute); those that a scene does not have count nothing."""
    parts = by_attribute(logits).values()
    return torch.stack(
        [
            nn.functional.cross_entropy(part, wanted, ignore_index=UNSEEN, reduction="sum") / len(wanted)
            for part, wanted in zip(parts, attributes.T, strict=True)
        ]
    ).sum()


@torch.inference_mode()
def accuracies(model: SceneJudge, scenes: SceneSet) -> dict[str, float]:
    """For each attribute, the part of the scenes that have it where it is named rightly; "all": all of them at once."""
    named = []
    for rows in torch.arange(len(scenes)).split(100):
        logits = model(to_signal(torch.from_numpy(scenes.pictures(rows.numpy()))))
        named.append(torch.stack([part.argmax(-1) for part in by_attribute(logits).values()], dim=1))
    wanted = torch.from_numpy(scenes.attributes[:, 0]).long()
    right, there = torch.cat(named) == wanted, wanted != UNSEEN
    each = [float(right[there[:, column], column].float().mean()) for column in range(wanted.shape[1])]
    return dict(zip(ATTRIBUTES, each, strict=True)) | {"all": float((right | ~there).all(dim=1).float().mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".build/demo128"))
    parser.add_argument("--minutes", type=float, default=60)
    args = parser.parse_args()
    torch.manual_seed(0)
    scenes, model = SceneSet.open(args.work / "train"), SceneJudge()
    attributes = torch.from_numpy(scenes.attributes).long()
    pictures = LabelledPictures(scenes, torch.arange(len(scenes)), attributes, size=64, seed=0)
    run = fit(model, pictures, judge_loss, args.work / "judge.pt", args.minutes)
    save_file({k: v.half() for k, v in model.state_dict().items()}, args.work / "judge.safetensors")
    report = {"steps": run.step, "accuracy_unseen": accuracies(model, SceneSet.open(args.work / "test"))}
    write_json(args.work / "judge.json", report)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
