"""Train the demo's autoencoder: diffusers `AutoencoderKL`, 3x64x64 pictures <-> 4x16x16 latents.

Loss: L1 + L1 of the pictures' gradients (keeps edges) + a light KL term. Ends by measuring PSNR on unseen scenes and
setting `scaling_factor` so that latents have unit variance.

    python assets/recipes/train_vae.py
    python assets/recipes/train_vae.py --stage decoder   # sharper pictures from the same latents
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

KL_WEIGHT = 5e-5

Loss = Callable[[AutoencoderKL, Tensor], Tensor]


def build_vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 48, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=64,
        mid_block_add_attention=False,
    )


def load_images(path: Path) -> Tensor:
    return torch.from_numpy(np.load(path)["images"])


def load_labels(path: Path) -> Tensor:
    return torch.from_numpy(np.load(path)["labels"])


def to_signal(images: Tensor) -> Tensor:
    """uint8 pictures to the autoencoder's range [-1, 1]."""
    return images.float() / 127.5 - 1


def gradient_loss(a: Tensor, b: Tensor) -> Tensor:
    across = (a.diff(dim=-1) - b.diff(dim=-1)).abs().mean()
    down = (a.diff(dim=-2) - b.diff(dim=-2)).abs().mean()
    return across + down


def step_loss(vae: AutoencoderKL, picture: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(picture).latent_dist
        restored = vae.decode(posterior.sample()).sample.float()
    kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
    return (restored - picture).abs().mean() + gradient_loss(restored, picture) + KL_WEIGHT * kl


def decoder_loss(vae: AutoencoderKL, picture: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            latents = vae.encode(picture).latent_dist.mean
        restored = vae.decode(latents).sample.float()
    difference = restored - picture
    return difference.abs().mean() + 4 * difference.square().mean() + gradient_loss(restored, picture)


@torch.inference_mode()
def measure(vae: AutoencoderKL, images: Tensor) -> dict[str, float]:
    """Mean PSNR in dB of posterior-mean reconstructions, and the latents' standard deviation."""
    errors, latents = [], []
    for batch in images.split(100):
        picture = to_signal(batch)
        mean = vae.encode(picture).latent_dist.mean
        restored = vae.decode(mean).sample.clamp(-1, 1)
        errors.append(((restored - picture) / 2).square().mean(dim=(1, 2, 3)))
        latents.append(mean)
    return {
        "psnr_db": float((-10 * torch.cat(errors).log10()).mean()),
        "latent_std": float(torch.cat(latents).std()),
        "pictures": len(images),
    }


def train(vae: AutoencoderKL, images: Tensor, steps: int, batch: int, peak: float, loss_of: Loss) -> None:
    """Train what requires a gradient, with a one-cycle learning rate."""
    parameters = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    generator = torch.Generator().manual_seed(0)
    running = None
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = peak * min(1.0, (step + 1) / 100, 2 * (1 - step / steps))
        rows = torch.randint(len(images), (batch,), generator=generator)
        loss = loss_of(vae, to_signal(images[rows]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1} of {steps}  loss {running:.4f}", flush=True)


def train_whole(args: argparse.Namespace) -> AutoencoderKL:
    """The first stage: encoder and decoder together; fixes the latents and their scale."""
    vae = build_vae()
    images = load_images(args.work / "train.npz")
    train(vae, images, args.steps, args.batch, args.peak, step_loss)
    std = measure(vae.eval(), images[:2000])["latent_std"]
    vae.register_to_config(scaling_factor=1 / std)
    return vae


def train_decoder(args: argparse.Namespace) -> AutoencoderKL:
    """The second stage: the decoder alone, so the latents, and a transformer trained on them, stay valid."""
    vae = AutoencoderKL.from_pretrained(args.work / "vae")
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    train(vae, load_images(args.work / "train.npz"), args.steps, args.batch, args.peak, decoder_loss)
    return vae.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".build"))
    parser.add_argument("--stage", choices=("whole", "decoder"), default="whole")
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--peak", type=float, default=8e-4, help="largest learning rate")
    args = parser.parse_args()
    torch.manual_seed(0)
    vae = (train_whole if args.stage == "whole" else train_decoder)(args)
    report = measure(vae, load_images(args.work / "test.npz")[:2000])
    vae.save_pretrained(args.work / "vae")
    report |= {"stage": args.stage, "steps": args.steps, "parameters": sum(p.numel() for p in vae.parameters())}
    (args.work / "vae.json").write_text(json.dumps(report, indent=2))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
