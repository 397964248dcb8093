"""Measure the text-to-image model: captions of unseen scenes, drawn by the stock pipeline and read by the judge.

Writes `results/quality.json` and `samples.webp` in the model's folder; each attribute's accuracy is over the captions
that tell it, and a caption is right when all that it tells is.

    python assets/recipes/evaluate_text.py
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from asked import verdict
from chance import draw_scene
from diffusers import StableDiffusion3Pipeline
from judge import SceneJudge, by_attribute
from PIL import Image
from provenance import ROOT, made_by, of_model, write_json
from safetensors.torch import load_file
from scenes import Scene, caption
from torch import Tensor

UNSEEN_SEED = 2  # training rendered seed 0, the training scripts' own checks seed 1


def load_judge(path: Path) -> SceneJudge:
    judge = SceneJudge()
    judge.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return judge.eval()


def draw(
    pipeline: StableDiffusion3Pipeline, captions: list[str], steps: int, guidance: float, batch: int = 20
) -> Tensor:
    """One picture a caption, each with the seed of its number: (n, 3, 128, 128) in [0, 1]."""
    parts = []
    for start in range(0, len(captions), batch):
        words = captions[start : start + batch]
        seeds = [torch.Generator().manual_seed(start + offset) for offset in range(len(words))]
        given = {"num_inference_steps": steps, "guidance_scale": guidance, "max_sequence_length": 1}
        parts.append(pipeline(words, generator=seeds, output_type="pt", **given).images)
        print(f"{start + len(words)} of {len(captions)} pictures", flush=True)
    return torch.cat(parts)


@torch.inference_mode()
def read(judge: SceneJudge, pictures: Tensor) -> list[dict[str, int]]:
    """What the judge sees in each picture in [0, 1]: attribute -> index among its values."""
    parts = [{k: v.argmax(-1) for k, v in by_attribute(judge(batch * 2 - 1)).items()} for batch in pictures.split(50)]
    return [{name: int(part[name][row]) for name in part} for part in parts for row in range(len(part["count"]))]


def report_on(scenes: list[Scene], shown: list[dict[str, int]]) -> dict[str, Any]:
    """Accuracies over captions of one thing, of two, and of all; and each attribute's."""
    each, right = defaultdict[str, list[bool]](list), defaultdict[str, list[bool]](list)
    for scene, picture in zip(scenes, shown, strict=True):
        found = verdict(scene, picture)
        for name, holds in found.items():
            each[name.split()[-1]].append(holds)
        for group in ("all", ("one", "two")[len(scene.things) - 1]):
            right[group].append(all(found.values()))
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    return {
        "captions_right": {group: mean(values) for group, values in right.items()},
        "captions": {group: len(values) for group, values in right.items()},
        "attributes_right": {name: mean(values) for name, values in each.items()},
    }


def sample_grid(pictures: Tensor, columns: int = 10) -> Image.Image:
    rows = [torch.cat(list(row), dim=2) for row in pictures.split(columns) if len(row) == columns]
    return Image.fromarray((torch.cat(rows, dim=1) * 255).round().byte().permute(1, 2, 0).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "text")
    parser.add_argument("--judge", type=Path, default=Path(".build/demo128/judge.safetensors"))
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--guidance", type=float, default=4.0)
    args = parser.parse_args()
    pipeline = StableDiffusion3Pipeline.from_pretrained(args.model, text_encoder_3=None, tokenizer_3=None)
    pipeline.set_progress_bar_config(disable=True)
    scenes = [draw_scene(UNSEEN_SEED, index) for index in range(args.count)]
    pictures = draw(pipeline, [caption(scene) for scene in scenes], args.steps, args.guidance)
    sample_grid(pictures[:100]).save(args.model / "samples.webp", quality=92)
    report = of_model(pipeline.transformer) | made_by("python assets/recipes/evaluate_text.py")
    report |= {"steps": args.steps, "guidance": args.guidance}
    report |= report_on(scenes, read(load_judge(args.judge), pictures))
    write_json(args.model / "results" / "quality.json", report)
    print(report)


if __name__ == "__main__":
    main()
