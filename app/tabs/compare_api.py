"""What a program calls: `/generate` for one picture, `/compare` for full precision against several variants."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import gradio as gr
from gradio.processing_utils import save_img_array_to_cache
from gradio.utils import get_upload_folder

from app.components.messages import checked_by, explained
from app.services import generation
from app.services.drawing import require_subject
from app.services.generation import Frame, Image
from app.services.request import DEFAULT_BITS, FULL_PRECISION, Request, Variant, parse_variants
from app.tabs.compare_files import settings
from app.tabs.inspect_api import named

KEPT_PICTURES = 512  # files of pictures that clients may still be fetching, about 20 kB each

_keeping = Lock()
_kept: dict[str, None] = {}


def create_endpoints(limits: dict[str, Any]) -> None:
    """Offer both endpoints; `limits` are the concurrency settings that they share with the page."""
    gr.api(generate, api_name="generate", **limits)
    gr.api(compare, api_name="compare", **limits)


def _single(
    class_id: int,
    seed: int,
    steps: int,
    guidance: float,
    sampler: str,
    bits: str,
    csb: bool,
    ssc: bool,
    strength: int,
    backend: str,
    model: str,
    prompt: str,
    tokens: bool,
) -> Request:
    """The picture that `generate` is asked for, by the last contender alone."""
    plain = isinstance(bits, str) and bits.strip().upper() == "FP32"
    variants = () if plain else (Variant.parse(bits, csb, ssc, backend, tokens),)
    alone = tuple(one for one in variants if not one.is_float)
    return _request(class_id, seed, steps, guidance, sampler, strength, alone, model, prompt)


@checked_by(_single)
def generate(
    class_id: int = 0,
    seed: int = 0,
    steps: int = 25,
    guidance: float = 4.0,
    sampler: str = "ddim",
    bits: str = "W4A8",
    csb: bool = True,
    ssc: bool = True,
    strength: int = 1,
    backend: str = "auto",
    model: str = "",
    prompt: str = "",
    tokens: bool = False,
) -> dict[str, Any]:
    """Generate one picture with a model, in full precision or quantized.

    Args:
        class_id: index of the class, for a model that is given classes.
        seed: 0 or more; the same seed gives the same noise to every variant.
        steps: denoising steps, 1 to 250.
        guidance: classifier-free guidance scale, 1.0 (none) to 20.0.
        sampler: "ddim", "ddpm" or "dpm++".
        bits: "FP32", or weight and activation bits such as "W4A8" (2 to 8, 16 = float).
        csb: Channel-wise Salience Balancing.
        ssc: Spearman's rho-guided Salience Calibration; needs csb.
        strength: salience dial, 1 (as trained), 2, 4, 8 or 16; the model's function is unchanged.
        backend: "simulated" (rounded floats), "integer" (W8A8 and W4A8), or "auto": integer where there is one.
        model: a name that /models lists; the first one if empty.
        prompt: what to draw, for a model that is given prompts.
        tokens: a scale for every token's input instead of one for all.

    Returns:
        name, picture (PNG file) and settings.
    """
    with explained():
        request = _single(
            class_id, seed, steps, guidance, sampler, bits, csb, ssc, strength, backend, model, prompt, tokens
        )
        picture = generation.single(request)
    return {"name": request.contenders[-1].name, "picture": _file(picture), "settings": settings(request)}


def _several(
    class_id: int,
    seed: int,
    steps: int,
    guidance: float,
    sampler: str,
    bits: list[str] | None,
    csb: bool,
    ssc: bool,
    strength: int,
    backend: str,
    model: str,
    prompt: str,
    tokens: bool,
) -> Request:
    """The pictures that `compare` is asked for."""
    chosen = parse_variants(DEFAULT_BITS if bits is None else bits, csb, ssc, backend, tokens)
    return _request(class_id, seed, steps, guidance, sampler, strength, chosen, model, prompt)


@checked_by(_several)
def compare(
    class_id: int = 0,
    seed: int = 0,
    steps: int = 25,
    guidance: float = 4.0,
    sampler: str = "ddim",
    bits: list[str] | None = None,
    csb: bool = True,
    ssc: bool = True,
    strength: int = 1,
    backend: str = "auto",
    model: str = "",
    prompt: str = "",
    tokens: bool = False,
) -> dict[str, Any]:
    """Generate one picture in full precision and by quantized variants from the same noise, and measure the distance.

    Args:
        class_id: index of the class, for a model that is given classes.
        seed: 0 or more.
        steps: denoising steps, 1 to 250.
        guidance: classifier-free guidance scale, 1.0 (none) to 20.0.
        sampler: "ddim", "ddpm" or "dpm++".
        bits: one to seven variants such as ["W8A8", "W4A8"], which is the default.
        csb: Channel-wise Salience Balancing.
        ssc: Spearman's rho-guided Salience Calibration; needs csb.
        strength: salience dial, 1 (as trained), 2, 4, 8 or 16; the model's function is unchanged.
        backend: "simulated" (rounded floats), "integer" (W8A8 and W4A8), or "auto": integer where there is one.
        model: a name that /models lists; the first one if empty.
        prompt: what to draw, for a model that is given prompts.
        tokens: a scale for every token's input instead of one for all.

    Returns:
        full_precision: its name, picture (PNG file), milliseconds a step and megabytes on disk; variants: the same for
        each with backend, psnr (dB), ssim, and drift, the relative error of its latents after every step; settings.
    """
    with explained():
        request = _several(
            class_id, seed, steps, guidance, sampler, bits, csb, ssc, strength, backend, model, prompt, tokens
        )
        *_, frame = generation.run(request)
    return _answer(frame)


def _request(
    class_id: int,
    seed: int,
    steps: int,
    guidance: float,
    sampler: str,
    strength: int,
    chosen: tuple[Variant, ...],
    model: str,
    prompt: str,
) -> Request:
    request = Request(
        model=named(model),
        prompt=prompt,
        class_id=class_id,
        seed=seed,
        steps=steps,
        guidance=guidance,
        sampler=sampler,
        strength=strength,
        variants=chosen,
    )
    require_subject(request)
    return request


def _answer(frame: Frame) -> dict[str, Any]:
    """A finished comparison as plain JSON with files."""
    reference, *pictures = frame.pictures or ()
    costs = [
        {"milliseconds_a_step": round(ms, 2), "megabytes": round(size, 3)}
        for ms, size in zip(frame.milliseconds, frame.megabytes, strict=True)
    ]
    scores = zip(frame.request.variants, pictures, frame.psnr, frame.ssim, frame.drift, costs[1:], strict=True)
    return {
        "full_precision": {"name": FULL_PRECISION.name, "picture": _file(reference), **costs[0]},
        "variants": [
            {
                "name": v.name,
                "backend": v.backend,
                "picture": _file(picture),
                "psnr": p,
                "ssim": s,
                "drift": list(drift),
                **cost,
            }
            for v, picture, p, s, drift, cost in scores
        ],
        "settings": settings(frame.request) | {"seconds": round(frame.seconds, 2)},
    }


def _file(picture: Image) -> dict[str, Any]:
    """A picture as a file that gradio serves and clients download; the last ones are kept."""
    path = save_img_array_to_cache(picture, cache_dir=get_upload_folder(), format="png")
    with _keeping:
        _kept.pop(path, None)
        _kept[path] = None
        while len(_kept) > KEPT_PICTURES:
            oldest = next(iter(_kept))
            del _kept[oldest]
            Path(oldest).unlink(missing_ok=True)
    return {"path": path, "meta": {"_type": "gradio.FileData"}}
