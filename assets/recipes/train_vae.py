"""Train the autoencoder of both demo models: diffusers `AutoencoderKL`, 3x128x128 pictures <-> 8x16x16 latents.

Loss: L1 + L1 of the pictures' gradients (keeps edges) + a light KL term. The second stage trains the decoder alone, so
that a transformer trained on the latents meanwhile stays valid; squared errors and the classifier's features join in.
Saves its whole state every few minutes; run again to resume. Ends by measuring PSNR on unseen scenes.

    python assets/recipes/train_vae.py --minutes 120
    python assets/recipes/train_vae.py --stage decoder --minutes 60
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from dataset import SceneSet
from diffusers import AutoencoderKL
from optimizer import Together
from provenance import ROOT, write_json
from run import Run
from torch import Tensor, nn

sys.path.insert(0, str(ROOT))

from ptq4dit.metrics.classifier import SceneClassifier, load_classifier

KL_WEIGHT = 1e-4
FEATURE_WEIGHT = 0.1
REOPEN_EVERY = 500  # batches, after which newly rendered shards are seen


def build_vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=128,
        shift_factor=0.0,
        mid_block_add_attention=False,
    )


def to_signal(images: Tensor) -> Tensor:
    """uint8 pictures to the autoencoder's range [-1, 1]."""
    return images.float() / 127.5 - 1


class Pictures:
    """Random batches of a rendered set that may still grow, mirrored half of the time."""

    def __init__(self, folder: Path, size: int, seed: int):
        self.folder, self.size, self.drawn = folder, size, 0
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self) -> Tensor:
        """The next batch in [-1, 1]: (size, 3, 128, 128)."""
        if self.drawn % REOPEN_EVERY == 0:
            self.scenes = SceneSet.open(self.folder)
        self.drawn += 1
        rows = torch.randint(len(self.scenes), (self.size,), generator=self.generator)
        picture = to_signal(torch.from_numpy(self.scenes.pictures(rows.numpy())))
        flip = torch.rand(self.size, generator=self.generator) < 0.5
        picture = torch.where(flip[:, None, None, None], picture.flip(-1), picture)
        return picture.contiguous(memory_format=torch.channels_last)


def gradient_loss(a: Tensor, b: Tensor) -> Tensor:
    across = (a.diff(dim=-1) - b.diff(dim=-1)).abs().mean()
    down = (a.diff(dim=-2) - b.diff(dim=-2)).abs().mean()
    return across + down


def whole_loss(vae: AutoencoderKL, picture: Tensor) -> Tensor:
    posterior = vae.encode(picture).latent_dist
    restored = vae.decode(posterior.sample()).sample
    kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
    return (restored - picture).abs().mean() + gradient_loss(restored, picture) + KL_WEIGHT * kl


def decoder_loss(vae: AutoencoderKL, picture: Tensor, judge: SceneClassifier | None) -> Tensor:
    with torch.no_grad():
        latents = vae.encode(picture).latent_dist.mean
    restored = vae.decode(latents).sample
    difference = restored - picture
    loss = difference.abs().mean() + 4 * difference.square().mean() + gradient_loss(restored, picture)
    if judge is None:
        return loss
    early = judge.body[:6]  # two stages: edges and small patterns
    return loss + FEATURE_WEIGHT * (early(restored) - early(picture)).abs().mean()


@torch.inference_mode()
def measure(vae: AutoencoderKL, images: Tensor) -> dict[str, float]:
    """Mean PSNR in dB of posterior-mean reconstructions of uint8 pictures, and the latents' standard deviation."""
    errors, latents = [], []
    for batch in images.split(20):
        picture = to_signal(batch).contiguous(memory_format=torch.channels_last)
        mean = vae.encode(picture).latent_dist.mean
        restored = vae.decode(mean).sample.clamp(-1, 1)
        errors.append(((restored - picture) / 2).square().mean(dim=(1, 2, 3)))
        latents.append(mean)
    return {
        "psnr_db": float((-10 * torch.cat(errors).log10()).mean()),
        "latent_std": float(torch.cat(latents).std()),
        "pictures": len(images),
    }


def first_pictures(folder: Path, count: int) -> Tensor:
    """The first pictures of a rendered set: uint8 (count, 3, 128, 128)."""
    scenes = SceneSet.open(folder)
    return torch.from_numpy(scenes.pictures(range(min(count, len(scenes)))))


def start(args: argparse.Namespace) -> tuple[Run, Callable[[], Tensor]]:
    """The run of a stage, resumed where there is one, and what draws its loss."""
    if args.stage == "whole":
        vae, path = build_vae(), args.work / "vae.pt"
    else:
        vae, path = AutoencoderKL.from_pretrained(args.work / "vae").train(), args.work / "vae_decoder.pt"
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    vae.to(memory_format=torch.channels_last)
    run = Run(vae, Together(vae, args.peak, _is_inner_kernel), path)
    pictures = Pictures(args.work / "train", args.batch, seed=run.step)
    if args.stage == "whole":
        return run, lambda: whole_loss(vae, pictures.draw())
    weights = args.work / "classifier.safetensors"
    judge = load_classifier(weights).requires_grad_(False) if weights.exists() else None
    return run, lambda: decoder_loss(vae, pictures.draw(), judge)


def _is_inner_kernel(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 4 and min(parameter.shape[:2]) >= 16


def export(run: Run, work: Path, stage: str) -> dict[str, float]:
    """Write the averaged weights as `vae`, with unit-variance latents, and what they were measured to do."""
    vae = build_vae().to(memory_format=torch.channels_last).eval()
    vae.load_state_dict(run.average)
    scale = 1 / measure(vae, first_pictures(work / "train", 400))["latent_std"]
    vae.register_to_config(scaling_factor=scale if stage == "whole" else run.model.config.scaling_factor)
    report = measure(vae, first_pictures(work / "test", 500))
    vae.save_pretrained(work / "vae")
    report |= {"stage": stage, "steps": run.step, "minutes": round(run.seconds / 60, 1)}
    report |= {"parameters": sum(p.numel() for p in vae.parameters())}
    write_json(work / f"vae_{stage}.json", report)
    write_json(work / "vae.json", report)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".build/demo128"))
    parser.add_argument("--stage", choices=("whole", "decoder"), default="whole")
    parser.add_argument("--minutes", type=float, default=120, help="budget in all, resumed runs included")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--peak", type=float, default=3e-3, help="largest learning rate")
    parser.add_argument("--export-only", action="store_true", help="write `vae` from the state as it is")
    args = parser.parse_args()
    torch.manual_seed(0)
    run, loss_of = start(args)
    if not args.export_only:
        run.train(loss_of, args.minutes, args.peak)
    print(json.dumps(export(run, args.work, args.stage)))


if __name__ == "__main__":
    main()
