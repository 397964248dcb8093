"""Train the demo's diffusion transformer: diffusers `DiTTransformer2DModel`, class-conditional, noise prediction.

As DiT is trained (adaLN-zero, AdamW without weight decay, EMA, label dropout for guidance), with three savings for a
CPU: bf16 autocast under `torch.compile`, min-SNR weighting of the timesteps (Hang et al. 2023), and a learning rate
that decays to zero over the end of a wall-clock budget. Saves its whole state every few minutes; run again to resume.

    python assets/recipes/train_dit.py --minutes 90
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTTransformer2DModel
from diffusers.models.attention_processor import AttnProcessor
from scenes import CLASSES
from torch import Tensor, nn
from train_vae import load_images, load_labels, to_signal

LABEL_DROPOUT = 0.1
SNR_CAP = 5.0


def build_scheduler() -> DDIMScheduler:
    return DDIMScheduler(num_train_timesteps=1000, beta_schedule="linear", clip_sample=False, prediction_type="epsilon")


def build_dit() -> DiTTransformer2DModel:
    """The float model, initialised as DiT is; all blocks share one conditioning embedder, as DiT's do."""
    model = DiTTransformer2DModel(
        num_attention_heads=6,
        attention_head_dim=32,
        in_channels=4,
        out_channels=4,
        num_layers=8,
        sample_size=16,
        patch_size=2,
        num_embeds_ada_norm=len(CLASSES),
    )
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    patch = model.pos_embed.proj
    nn.init.xavier_uniform_(patch.weight.view(patch.weight.shape[0], -1))
    nn.init.zeros_(patch.bias)
    shared = model.transformer_blocks[0].norm1.emb
    nn.init.normal_(shared.class_embedder.embedding_table.weight, std=0.02)
    nn.init.normal_(shared.timestep_embedder.linear_1.weight, std=0.02)
    nn.init.normal_(shared.timestep_embedder.linear_2.weight, std=0.02)
    for block in model.transformer_blocks:
        block.norm1.emb = shared
        block.attn1.set_processor(AttnProcessor())  # plain products: 6x faster backward in bf16 than SDPA on a CPU
        nn.init.zeros_(block.norm1.linear.weight)
    for last in (model.proj_out_1, model.proj_out_2):
        nn.init.zeros_(last.weight)
    return model.eval()  # eval: label dropout happens here, once for all blocks, not inside each embedder


@torch.inference_mode()
def encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Unit-variance latents of the pictures and of their mirror images: float16 (2n, 4, 16, 16)."""
    parts = []
    for batch in images.split(250):
        picture = to_signal(torch.cat([batch, batch.flip(-1)])).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            mean = vae.encode(picture).latent_dist.mean
        parts.append((mean.float() * vae.config.scaling_factor).half().reshape(2, len(batch), 4, 16, 16))
    return torch.cat(parts, dim=1).flatten(0, 1)


def load_latents(work: Path) -> tuple[Tensor, Tensor]:
    """The training latents and labels, encoded once and kept beside the pictures."""
    cache = work / "latents.pt"
    if not cache.exists():
        vae = AutoencoderKL.from_pretrained(work / "vae").eval().to(memory_format=torch.channels_last)
        labels = load_labels(work / "train.npz")
        partial = cache.with_suffix(".partial")
        torch.save((encode(vae, load_images(work / "train.npz")), labels.repeat(2)), partial)
        partial.replace(cache)
    return torch.load(cache, weights_only=True)


@dataclass
class Run:
    """Everything that a stop must not lose."""

    model: DiTTransformer2DModel
    ema: dict[str, Tensor]
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        partial = path.with_suffix(".partial")
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema, self.step, self.seconds = state["ema"], state["step"], state["seconds"]


def start_run(peak: float) -> Run:
    model = build_dit()
    model.requires_grad_(True)
    model.pos_embed.pos_embed.requires_grad_(False)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    return Run(model, {k: v.clone() for k, v in model.state_dict().items()}, optimizer)


def learning_rate(peak: float, step: int, done: float, decay_from: float = 0.6) -> float:
    """Warm-up over 200 steps, constant, then 1 - sqrt decay to zero over the last part of the budget."""
    decay = 1.0 if done < decay_from else 1 - math.sqrt((done - decay_from) / (1 - decay_from))
    return peak * min(1.0, (step + 1) / 200, decay)


def snr_weights(scheduler: DDIMScheduler) -> Tensor:
    """min(SNR_t, 5) / SNR_t, the weight of timestep t's noise-prediction error."""
    signal = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)
    return signal.clamp_max(SNR_CAP) / signal


class Batches:
    """Noised latents, the noise, timesteps and labels of one batch after another."""

    def __init__(self, latents: Tensor, labels: Tensor, scheduler: DDIMScheduler, size: int, seed: int):
        self.latents, self.labels, self.scheduler, self.size = latents, labels, scheduler, size
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        g, n = self.generator, self.size
        rows = torch.randint(len(self.latents), (n,), generator=g)
        clean = self.latents[rows].float()
        # stratified timesteps: the batch covers 0..999 evenly, which lowers the gradient's variance
        timestep = ((torch.arange(n) + torch.rand(n, generator=g)) / n * 1000).long().clamp_max(999)
        noise = torch.randn(clean.shape, generator=g)
        label = torch.where(torch.rand(n, generator=g) < LABEL_DROPOUT, len(CLASSES), self.labels[rows])
        return self.scheduler.add_noise(clean, noise, timestep), noise, timestep, label


def train(run: Run, batches: Batches, minutes: float, peak: float, work: Path, log_every: int = 100) -> None:
    weights = snr_weights(batches.scheduler)
    forward = torch.compile(run.model)
    clock, running, saved = time.monotonic() - run.seconds, None, run.seconds
    while (done := (time.monotonic() - clock) / (60 * minutes)) < 1:
        run.optimizer.param_groups[0]["lr"] = learning_rate(peak, run.step, done)
        noisy, noise, timestep, label = batches.draw()
        with torch.autocast("cpu", torch.bfloat16):
            predicted = forward(noisy, timestep=timestep, class_labels=label, return_dict=False)[0]
        error = (predicted.float() - noise).square().mean(dim=(1, 2, 3))
        run.optimizer.zero_grad()
        (error * weights[timestep]).mean().backward()
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
        run.optimizer.step()
        run.step += 1
        update_ema(run)
        running = error.mean().item() if running is None else 0.99 * running + 0.01 * error.mean().item()
        run.seconds = time.monotonic() - clock
        if run.step % log_every == 0:
            rate = run.optimizer.param_groups[0]["lr"]
            print(f"step {run.step}  loss {running:.4f}  lr {rate:.1e}  {run.seconds / 60:.1f} min", flush=True)
        if run.seconds - saved > 180:
            saved = run.seconds
            run.save(work / "dit.pt")
    run.save(work / "dit.pt")


@torch.no_grad()
def update_ema(run: Run) -> None:
    decay = min(0.9993, (1 + run.step) / (20 + run.step))
    torch._foreach_lerp_(list(run.ema.values()), list(run.model.state_dict().values()), 1 - decay)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".build"))
    parser.add_argument("--minutes", type=float, default=90, help="budget in all, resumed runs included")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--peak", type=float, default=1e-3, help="largest learning rate")
    args = parser.parse_args()
    torch.manual_seed(0)
    run = start_run(args.peak)
    if (args.work / "dit.pt").exists():
        run.load(args.work / "dit.pt")
    latents, labels = load_latents(args.work)
    batches = Batches(latents, labels, build_scheduler(), args.batch, seed=run.step)
    train(run, batches, args.minutes, args.peak, args.work)
    report = {"steps": run.step, "batch": args.batch, "minutes": round(run.seconds / 60, 1)}
    (args.work / "dit.json").write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
