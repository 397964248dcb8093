"""Assemble `assets/demo`, a diffusers `DiTPipeline` folder, from what the training recipes left in the work folder.

Weights are stored in float16, in files under 10 MB. The folder's other content (calibration, results, model card)
stays.

    python assets/recipes/export.py
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DiTPipeline
from provenance import of_model, write_json
from solids import CLASSES
from train_dit import build_dit, build_scheduler

PARTS = ("transformer", "vae", "scheduler", "model_index.json")


def build_pipeline(work: Path) -> DiTPipeline:
    """The trained pipeline; the embedder that blocks shared in training becomes equal copies, as diffusers has it."""
    ema = torch.load(work / "dit.pt", weights_only=True)["average"]
    transformer = type(build_dit()).from_config(build_dit().config)
    transformer.load_state_dict(ema)
    vae = AutoencoderKL.from_pretrained(work / "vae")
    vae.register_to_config(_name_or_path="")
    pipeline = DiTPipeline(transformer.half(), vae.half(), build_scheduler())
    pipeline.register_to_config(id2label={str(index): name for index, name in enumerate(CLASSES)})
    return pipeline


def replace(source: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    source.replace(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".build/demo128"))
    parser.add_argument("--out", type=Path, default=Path("assets/demo"))
    args = parser.parse_args()
    fresh = args.out.with_name(f".{args.out.name}.partial")
    pipeline = build_pipeline(args.work)
    pipeline.save_pretrained(fresh, max_shard_size="8MB")
    args.out.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        replace(fresh / part, args.out / part)
    (args.out / "classifier").mkdir(exist_ok=True)
    shutil.copyfile(args.work / "classifier.safetensors", args.out / "classifier" / "model.safetensors")
    shutil.rmtree(fresh)
    for file in args.out.rglob("*.safetensors"):
        file.chmod(0o644)
    training = {name: json.loads((args.work / f"{name}.json").read_text()) for name in ("vae", "dit", "classifier")}
    write_json(args.out / "results" / "training.json", of_model(pipeline.transformer) | training)


if __name__ == "__main__":
    main()
