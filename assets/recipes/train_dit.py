"""Train the demo's diffusion transformer: diffusers `DiTTransformer2DModel`, class-conditional, noise prediction.

As DiT is trained (adaLN-zero, EMA, label dropout for guidance), with three savings for a CPU: Muon (`optimizer.py`),
min-SNR weighting of the timesteps (Hang et al. 2023), and a learning rate that decays to zero over the end of a
wall-clock budget. Saves its whole state every few minutes; run again to resume.

    python assets/recipes/train_dit.py --minutes 600
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DiTTransformer2DModel
from latents import LatentSet
from optimizer import Together
from provenance import write_json
from run import Run
from solids import CLASSES
from torch import Tensor, nn

LABEL_DROPOUT = 0.1
SNR_CAP = 5.0


def build_scheduler() -> DDIMScheduler:
    return DDIMScheduler(num_train_timesteps=1000, beta_schedule="linear", clip_sample=False, prediction_type="epsilon")


def build_dit(layers: int = 10, heads: int = 6) -> DiTTransformer2DModel:
    """The float model, initialised as DiT is; all blocks share one conditioning embedder, as DiT's do."""
    model = DiTTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=32,
        in_channels=8,
        out_channels=8,
        num_layers=layers,
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
        nn.init.zeros_(block.norm1.linear.weight)
    for last in (model.proj_out_1, model.proj_out_2):
        nn.init.zeros_(last.weight)
    return model.eval()  # eval: label dropout happens here, once for all blocks, not inside each embedder


def is_inner_matrix(name: str, parameter: nn.Parameter) -> bool:
    """The matrices inside blocks, which Muon is for; what embeds and what comes last is Adam's."""
    return "transformer_blocks" in name and parameter.ndim == 2 and ".emb." not in name


def snr_weights(scheduler: DDIMScheduler) -> Tensor:
    """min(SNR_t, 5) / SNR_t, the weight of timestep t's noise-prediction error."""
    signal = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)
    return signal.clamp_max(SNR_CAP) / signal


class Batches:
    """Noised latents, the noise, timesteps and labels of one batch after another."""

    def __init__(self, data: LatentSet, scheduler: DDIMScheduler, size: int, seed: int):
        self.data, self.scheduler, self.size = data, scheduler, size
        self.rows, self.labels = torch.from_numpy(data.singles()), torch.from_numpy(data.scenes.classes())
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        g, n = self.generator, self.size
        rows = self.rows[torch.randint(len(self.rows), (n,), generator=g)]
        clean = self.data.latents(rows.numpy(), torch.randint(2, (n,), generator=g).numpy())
        # stratified timesteps: the batch covers 0..999 evenly, which lowers the gradient's variance
        timestep = ((torch.arange(n) + torch.rand(n, generator=g)) / n * 1000).long().clamp_max(999)
        noise = torch.randn(clean.shape, generator=g)
        label = torch.where(torch.rand(n, generator=g) < LABEL_DROPOUT, len(CLASSES), self.labels[rows])
        return self.scheduler.add_noise(clean, noise, timestep), noise, timestep, label


def loss_of(model: Callable[..., tuple[Tensor]], batches: Batches) -> Callable[[], Tensor]:
    """What draws a batch and returns the weighted error of the model's prediction of its noise."""
    weights = snr_weights(batches.scheduler)

    def loss() -> Tensor:
        noisy, noise, timestep, label = batches.draw()
        predicted = model(noisy, timestep=timestep, class_labels=label, return_dict=False)[0]
        return ((predicted - noise).square().mean(dim=(1, 2, 3)) * weights[timestep]).mean()

    return loss


def start_run(work: Path, model: DiTTransformer2DModel, peak: float) -> Run:
    """The run, resumed where there is one."""
    model.pos_embed.pos_embed.requires_grad_(False)
    return Run(model, Together(model, peak, is_inner_matrix), work / "dit.pt", decay=0.9995)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".build/demo128"))
    parser.add_argument("--minutes", type=float, default=600, help="budget in all, resumed runs included")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--peak", type=float, default=1e-3, help="largest learning rate")
    parser.add_argument("--compile", action="store_true", help="torch.compile: worth it where a compiler is")
    args = parser.parse_args()
    torch.manual_seed(0)
    run = start_run(args.work, build_dit(), args.peak)
    batches = Batches(LatentSet.open(args.work), build_scheduler(), args.batch, seed=run.step)
    run.train(loss_of(torch.compile(run.model) if args.compile else run.model, batches), args.minutes, args.peak)
    report = {"steps": run.step, "batch": args.batch, "minutes": round(run.seconds / 60, 1)}
    write_json(args.work / "dit.json", report)


if __name__ == "__main__":
    main()
