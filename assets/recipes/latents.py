"""Encode the rendered pictures once: float16 latents of unit variance, plain and mirrored, a shard a file.

Latents lie in a folder named after the encoder's weights, so that those of another one are never taken for them.

    python assets/recipes/latents.py
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from dataset import SHARD, SceneSet
from diffusers import AutoencoderKL
from numpy import ndarray as Array
from safetensors.torch import load_file
from torch import Tensor
from train_vae import to_signal


def latents_folder(work: Path) -> Path:
    """Where the latents of the work folder's autoencoder lie: its decoder may change, and they stay."""
    weights = load_file(next((work / "vae").glob("*.safetensors")))
    digest = hashlib.sha256((work / "vae" / "config.json").read_bytes())
    for name in sorted(weights):
        if name.startswith(("encoder.", "quant_conv.")):
            digest.update(weights[name].numpy().tobytes())
    return work / f"latents-{digest.hexdigest()[:8]}"


@torch.inference_mode()
def encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Unit-variance latents of uint8 pictures and of their mirror images: float16 (n, 2, channel, height, width)."""
    parts = []
    for batch in images.split(20):
        picture = to_signal(torch.cat([batch, batch.flip(-1)])).contiguous(memory_format=torch.channels_last)
        mean = vae.encode(picture).latent_dist.mean * vae.config.scaling_factor
        parts.append(mean.half().reshape(2, len(batch), *mean.shape[1:]).transpose(0, 1).contiguous())
    return torch.cat(parts)


def encode_missing(work: Path) -> Path:
    """Encode every rendered shard that has no latents yet; returns their folder."""
    folder, scenes = latents_folder(work), SceneSet.open(work / "train")
    folder.mkdir(exist_ok=True)
    vae = AutoencoderKL.from_pretrained(work / "vae").eval().to(memory_format=torch.channels_last)
    for number, shard in enumerate(scenes.shards):
        path = folder / f"{number:05d}.npy"
        if not path.exists():
            partial = folder / f"partial-{number:05d}.npy"
            np.save(partial, encode(vae, torch.from_numpy(np.array(shard))).numpy())
            partial.replace(path)
    return folder


@dataclass(frozen=True)
class LatentSet:
    """Encoded scenes, memory-mapped, with the captions and attributes of the first ones that are encoded."""

    shards: list[Array]
    scenes: SceneSet

    @staticmethod
    def open(work: Path) -> LatentSet:
        """The latents of all rendered shards; those that are missing are encoded first."""
        folder = encode_missing(work)
        return LatentSet(
            [np.load(file, mmap_mode="r") for file in sorted(folder.glob("0*.npy"))], SceneSet.open(work / "train")
        )

    def __len__(self) -> int:
        return SHARD * len(self.shards)

    def singles(self) -> Array:
        """Rows of the scenes that hold one thing."""
        rows = self.scenes.singles()
        return rows[rows < len(self)]

    def latents(self, rows: Array, mirrored: Array) -> Tensor:
        """Latents of some rows, of the mirror image where `mirrored`: float32 (n, channel, height, width)."""
        picked = [self.shards[row // SHARD][row % SHARD, int(side)] for row, side in zip(rows, mirrored, strict=True)]
        return torch.from_numpy(np.stack(picked)).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".build/demo128"))
    args = parser.parse_args()
    print(encode_missing(args.work))


if __name__ == "__main__":
    main()
