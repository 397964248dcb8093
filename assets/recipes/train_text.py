"""Train the text-to-image model: rectified flow with an SD3 transformer and its text encoders, on the scenes' captions.

The picture is mirrored half of the time, and then its caption is the mirrored scene's. Saves its whole state every few
minutes; run again to resume. `--pipeline FOLDER` writes what there is as a `StableDiffusion3Pipeline` folder.

    python assets/recipes/train_text.py --minutes 900
    python assets/recipes/train_text.py --pipeline .build/demo128/text
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from latents import LatentSet
from optimizer import Together
from provenance import write_json
from run import Run
from text_model import TextToImage
from torch import Tensor, nn

CAPTION_DROPOUT = 0.1
MOST_ZERO_TOKENS = 256  # what the pipeline appends when nobody says otherwise


def is_inner_matrix(name: str, parameter: nn.Parameter) -> bool:
    """The matrices inside blocks, which Muon is for; what embeds and what comes last is Adam's."""
    return parameter.ndim == 2 and ("transformer_blocks" in name or "encoder.layers" in name)


def draw_zero_tokens(n: int, generator: torch.Generator) -> Tensor:
    """How many zero tokens follow each caption: none, all, or any number between them, each for a third: (n,)."""
    kind = torch.rand(n, generator=generator)
    between = MOST_ZERO_TOKENS ** torch.rand(n, generator=generator)
    return torch.where(kind < 1 / 3, 0.0, torch.where(kind < 2 / 3, float(MOST_ZERO_TOKENS), between))


class Batches:
    """Latents with their captions' tokens, batch after batch, and noise to mix them with."""

    def __init__(self, data: LatentSet, model: TextToImage, size: int, seed: int):
        self.data, self.size = data, size
        captions = [words for pair in data.scenes.captions[: len(data)] for words in pair]
        self.ids = model.tokens(captions).reshape(-1, 2, model.tokenizer.model_max_length)
        self.silence = model.tokens([""])
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Clean latents, their tokens, the part of noise and the numbers of zero tokens."""
        g, n = self.generator, self.size
        rows, mirrored = torch.randint(len(self.data), (n,), generator=g), torch.randint(2, (n,), generator=g)
        clean = self.data.latents(rows.numpy(), mirrored.numpy())
        silent = torch.rand(n, 1, generator=g) < CAPTION_DROPOUT
        ids = torch.where(silent, self.silence, self.ids[rows, mirrored])
        # logit-normal, and stratified: the batch covers its quantiles evenly, which lowers the gradient's variance
        quantile = ((torch.arange(n) + torch.rand(n, generator=g)) / n).clamp(1e-4, 1 - 1e-4)
        return clean, ids, torch.special.ndtri(quantile).sigmoid(), draw_zero_tokens(n, g)


def loss_of(model: Callable[..., Tensor], batches: Batches) -> Callable[[], Tensor]:
    """What draws a batch and returns the error of the model's velocity."""

    def loss() -> Tensor:
        clean, ids, sigma, zero_tokens = batches.draw()
        noise = torch.randn(clean.shape, generator=batches.generator)
        mixed = torch.lerp(clean, noise, sigma[:, None, None, None])
        return (model(mixed, 1000 * sigma, ids, zero_tokens) - (noise - clean)).square().mean()

    return loss


def start_run(work: Path, model: TextToImage, peak: float) -> Run:
    """The run, resumed where there is one."""
    model.count_zero_tokens(True)
    return Run(model, Together(model, peak, is_inner_matrix), work / "text.pt", decay=0.9995)


def save_pipeline(run: Run, vae: AutoencoderKL, folder: Path) -> None:
    """Write the averaged weights as a folder that `StableDiffusion3Pipeline.from_pretrained` loads.

    Transformer and autoencoder are stored in float16, which diffusers loads as float32; the text encoders in float32,
    because transformers loads what it finds.
    """
    model = run.model
    model.load_state_dict(run.average)
    vae.register_to_config(_name_or_path="")
    model.transformer.half()
    model.pipeline(vae.half()).save_pretrained(folder, max_shard_size="8MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".build/demo128"))
    parser.add_argument("--minutes", type=float, default=900, help="budget in all, resumed runs included")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--peak", type=float, default=1e-3, help="largest learning rate")
    parser.add_argument("--pipeline", type=Path, help="write the pipeline's folder from the state as it is")
    args = parser.parse_args()
    torch.manual_seed(0)
    run = start_run(args.work, TextToImage(), args.peak)
    if args.pipeline:
        save_pipeline(run, AutoencoderKL.from_pretrained(args.work / "vae"), args.pipeline)
        return
    batches = Batches(LatentSet.open(args.work), run.model, args.batch, seed=run.step)
    run.train(loss_of(run.model, batches), args.minutes, args.peak)
    write_json(args.work / "text.json", {"steps": run.step, "batch": args.batch, "minutes": round(run.seconds / 60, 1)})


if __name__ == "__main__":
    main()
