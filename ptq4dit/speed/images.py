"""One whole image, from noise to pixels: how long it takes and where the time goes."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler

from ptq4dit.backends.transformer import IntegerTransformer
from ptq4dit.model.bundle import Dit, bundle, load
from ptq4dit.sampling.denoise import decode, denoise
from ptq4dit.speed.config import XL, SpeedConfig
from ptq4dit.speed.interleaved import summary
from ptq4dit.speed.subject import Subject

_SD_BLOCKS = (128, 256, 512, 512)
"""Widths of the autoencoder that DiT-XL/2 decodes with."""


def measure_images(
    config: SpeedConfig, subject: Subject, transformers: Mapping[str, Any], progress: Callable[[str], None]
) -> dict[str, Any]:
    """Draw one image with each transformer, in turn; everything is loaded and compiled before.

    Args:
        config: rounds (``images``), steps, guidance.
        subject: the float model; for DiT-XL/2's size the autoencoder is one of the original's size, random weights.
        transformers: contestant -> what the sampler runs.
        progress: told what happens next.

    Returns:
        ``contestants``: key -> ``ms`` (median), ``ms_quartiles``, ``parts_ms``: ``sampling`` and ``decode``; on
        integers ``conditioning`` (once a run), ``steps`` (the compiled step), ``sampler`` (what else sampling takes)
        and ``decode``. ``together_ms``: one image of each.
    """
    whole = drawing_bundle(config, subject)
    models = {key: whole.with_transformer(transformer) for key, transformer in transformers.items()}
    parts: dict[str, list[dict[str, float]]] = defaultdict(list)
    for model in models.values():
        _draw(model, config, steps=2)
    for turn in range(config.images):
        progress(f"images, round {turn + 1} of {config.images}: {', '.join(models)}")
        for key, model in models.items():
            parts[key].append(_draw(model, config, config.steps))
    wholes = {key: [row["whole"] for row in rows] for key, rows in parts.items()}
    return {
        "steps": config.steps,
        "guidance_scale": config.guidance_scale,
        "autoencoder": "SD's size, random weights" if config.source == XL else "the model's own",
        "contestants": {key: summary(wholes[key]) | {"parts_ms": _medians(rows)} for key, rows in parts.items()},
        "together_ms": round(1e3 * statistics.median(map(sum, zip(*wholes.values(), strict=True))), 1),
    }


def drawing_bundle(config: SpeedConfig, subject: Subject) -> Dit:
    """The float model in a bundle with an autoencoder of the right size."""
    if config.source != XL:
        whole = load(config.source)
        vae, scheduler = whole.vae, whole.scheduler
    else:
        vae, scheduler = sd_autoencoder(), DDIMScheduler(clip_sample=False)
    return bundle(subject.transformer(), vae, scheduler, source=config.source)


def sd_autoencoder() -> AutoencoderKL:
    """An autoencoder of the size that DiT-XL/2 decodes with, random weights."""
    count = len(_SD_BLOCKS)
    down, up = ("DownEncoderBlock2D",) * count, ("UpDecoderBlock2D",) * count
    made = AutoencoderKL(
        latent_channels=4,
        block_out_channels=_SD_BLOCKS,
        down_block_types=down,
        up_block_types=up,
        layers_per_block=2,
        sample_size=256,
    )
    return made.eval()


def _draw(model: Dit, config: SpeedConfig, steps: int) -> dict[str, float]:
    """Seconds of one image and of its parts."""
    spent: dict[str, float] = defaultdict(float)
    with _watched(model.transformer, spent):
        begun = time.perf_counter()
        *_, last = denoise(model, [1], steps, config.guidance_scale, config.seed)
        sampled = time.perf_counter()
        decode(model, last.latents)
        ended = time.perf_counter()
    known = sum(spent.values())
    own = {"sampler": sampled - begun - known} if spent else {"sampling": sampled - begun}
    return dict(spent) | own | {"decode": ended - sampled, "whole": ended - begun}


@contextmanager
def _watched(transformer: Any, spent: dict[str, float]) -> Iterator[None]:
    """Adds up what an integer transformer's two parts take in the block; a float one is left alone."""
    if not isinstance(transformer, IntegerTransformer):
        yield
        return

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            begun = time.perf_counter()
            result = function(*given)
            spent[name] += time.perf_counter() - begun
            return result

        return call

    modulate: Any = transformer.modulate
    own = vars(transformer).copy()
    watched = {"modulate": timed("conditioning", modulate), "step": timed("steps", transformer.step)}
    vars(transformer).update(watched)
    try:
        yield
    finally:
        for name in watched:
            del vars(transformer)[name]
        vars(transformer).update({name: own[name] for name in watched if name in own})


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(1e3 * statistics.median(row[name] for row in rows), 2) for name in rows[0] if name != "whole"}
