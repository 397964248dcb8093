"""Train the demo's autoencoder: diffusers `AutoencoderKL`, 3x64x64 pictures <-> 4x16x16 latents.

Loss: L1 + L1 of the pictures' gradients (keeps edges) + a light KL term. Ends by measuring PSNR on unseen scenes and
setting `scaling_factor` so that latents have unit variance.

    python assets/recipes/train_vae.py --minutes 12
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

KL_WEIGHT = 5e-5


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


def train(vae: AutoencoderKL, images: Tensor, minutes: float, batch: int, peak: float) -> int:
    """Train for a wall-clock budget with a one-cycle learning rate; returns the number of steps."""
    optimizer = torch.optim.AdamW(vae.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    generator = torch.Generator().manual_seed(0)
    start, step, running = time.monotonic(), 0, 0.0
    while (done := (time.monotonic() - start) / (60 * minutes)) < 1:
        optimizer.param_groups[0]["lr"] = peak * min(1.0, (step + 1) / 100, 2 * (1 - done))
        rows = torch.randint(len(images), (batch,), generator=generator)
        loss = step_loss(vae, to_signal(images[rows]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step += 1
        running = loss.item() if step == 1 else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 0:
            print(f"step {step}  loss {running:.4f}  {100 * done:.0f}%", flush=True)
    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".build"))
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--peak", type=float, default=8e-4, help="largest learning rate")
    args = parser.parse_args()
    torch.manual_seed(0)
    vae = build_vae()
    steps = train(vae, load_images(args.work / "train.npz"), args.minutes, args.batch, args.peak)
    vae.eval()
    report = measure(vae, load_images(args.work / "test.npz")[:2000])
    vae.register_to_config(scaling_factor=1 / report["latent_std"])
    vae.save_pretrained(args.work / "vae")
    report |= {"steps": steps, "parameters": sum(p.numel() for p in vae.parameters())}
    (args.work / "vae.json").write_text(json.dumps(report, indent=2))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
