"""Measure what quantizing a model of DiT-XL/2's size takes on a CPU: peak memory, seconds, bytes; random weights.

    python assets/recipes/full_size.py

A `DiTTransformer2DModel` with the sizes of DiT-XL/2 and seeded random weights is written as a pipeline folder, and
every stage runs on it in a process of its own, whose peak of resident memory the operating system reports: calibrating
a little, quantizing and saving at W8A8 and W4A8 with modulation and conditioning switched on (and final layer and patch
embedding left in float), loading again with one forward pass, and reconstructing the first block, in closed form and
with a few gradient steps after it. Calibrating, and one and three blocks in closed form, are tried with the weights
left on disk, too. Neither bytes nor seconds depend on what the weights are; seconds are processor time of all threads.
Simulated quantization.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "assets" / "demo" / "results" / "full_size.json"
COMMAND = "python assets/recipes/full_size.py"
SIZES = {"blocks": 28, "heads": 16, "head_dim": 72, "patch": 2, "latent": 32, "classes": 1000}
BITS = ((8, 8), (4, 8))
SAMPLES, GRADIENT_STEPS, BATCH = 128, 10, 8
"""Behind the reconstruction: 128 samples of 256 tokens are as many as the closed form looks at."""
ON_DISK = 1, 3
"""Blocks in closed form with the weights on disk: the peak of memory is the same for both."""


def build(folder: Path) -> dict[str, Any]:
    """Write the float model; as in the published one, every block holds the same timestep and label embedder."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    torch.manual_seed(0)
    transformer = DiTTransformer2DModel(
        num_attention_heads=SIZES["heads"],
        attention_head_dim=SIZES["head_dim"],
        num_layers=SIZES["blocks"],
        in_channels=4,
        out_channels=8,
        sample_size=SIZES["latent"],
        patch_size=SIZES["patch"],
        num_embeds_ada_norm=SIZES["classes"],
    )
    first, *others = (block.norm1.emb for block in transformer.transformer_blocks)
    for other in others:
        other.load_state_dict(first.state_dict())
    small_vae = AutoencoderKL(latent_channels=4, block_out_channels=(8,), norm_num_groups=4)
    DiTPipeline(transformer, small_vae, DDIMScheduler(clip_sample=False)).save_pretrained(folder / "float")
    copies = sum(t.numel() for t in first.state_dict().values()) * len(others)
    total = sum(tensor.numel() for tensor in transformer.state_dict().values())
    return {"parameters": total, "float32_bytes": 4 * total, "float32_bytes_copies_once": 4 * (total - copies)}


def calibrate(folder: Path, on_disk: bool = False) -> dict[str, Any]:
    """Two timesteps of one image, with guidance."""
    import ptq4dit

    config = ptq4dit.CalibrationConfig(timesteps=2, samples_per_timestep=1, steps=2, seed=0)
    ptq4dit.calibrate(_float(folder, on_disk), config).save(folder / "calibration.safetensors")
    return {"timesteps": 2, "images": 1, "forward_passes": 2}


def quantize(folder: Path, weight_bits: int, activation_bits: int) -> dict[str, Any]:
    """Quantize with PTQ4DiT (CSB and SSC, no reconstruction) and save."""
    import ptq4dit

    dit, stats, config = _loaded(folder, weight_bits, activation_bits)
    begun = time.process_time()
    model = ptq4dit.quantize(dit, stats, config)
    quantized = time.process_time()
    ptq4dit.save_quantized(model, folder / config.label)
    seconds = {"quantize_seconds": quantized - begun, "save_seconds": time.process_time() - quantized}
    size = (folder / config.label / "transformer" / "diffusion_pytorch_model.safetensors").stat().st_size
    return {"checkpoint_bytes": size} | seconds


def load(folder: Path, label: str) -> dict[str, Any]:
    """Load a checkpoint without the float model, and pass one sample through it."""
    import torch

    import ptq4dit

    begun = time.process_time()
    model = ptq4dit.load_quantized(folder / label)
    loaded = time.process_time()
    latents = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = model.transformer(latents, timestep=torch.tensor([500]), class_labels=torch.tensor([0])).sample
    if not out.isfinite().all():
        raise SystemExit("The loaded model's output is not finite.")
    return {"load_seconds": loaded - begun, "forward_seconds": time.process_time() - loaded}


def reconstruct(folder: Path, steps: int, blocks: int = 1, on_disk: bool = False) -> dict[str, Any]:
    """Quantize to W4A8 and reconstruct the first block of the whole model, or more without `steps`, then stop."""
    import torch

    import ptq4dit

    learned = ptq4dit.ReconstructionConfig(steps=steps, batch_size=BATCH, held_out=0.0)
    dit, stats, config = _loaded(folder, 4, 8, learned, on_disk)
    generator = torch.Generator().manual_seed(0)
    images = torch.arange(SAMPLES) % 16
    data = ptq4dit.Trajectories(
        config=stats.config,
        latents=torch.randn(SAMPLES, *dit.latent_shape, generator=generator),
        timesteps=torch.randint(1000, (SAMPLES,), generator=generator),
        conditions={"class_labels": torch.randint(1000, (SAMPLES,), generator=generator)},
        images=images,
    )
    seen: dict[int, float] = {}
    try:
        ptq4dit.quantize(
            dit,
            stats,
            config,
            data=data,
            progress=lambda done, *_: seen.setdefault(done, time.process_time()),
            cancelled=lambda: len(seen) > blocks + steps,
            offload_folder=folder / "integers" if on_disk else None,
        )
    except ptq4dit.Cancelled:
        closed = (seen[blocks] - seen[0]) / blocks
        last = seen[blocks + steps] - seen[blocks] if steps else 0.0
        seconds = {"closed_form_seconds": closed, "gradient_seconds": last}
        return {"samples": SAMPLES, "blocks": blocks, "gradient_steps": steps} | seconds
    raise SystemExit(f"Expected to stop after {blocks} blocks.")


STAGES: dict[str, Callable[..., dict[str, Any]]] = {
    "build": build,
    "calibrate": calibrate,
    **{f"quantize W{w}A{a}": lambda folder, w=w, a=a: quantize(folder, w, a) for w, a in BITS},
    **{f"load W{w}A{a}": lambda folder, w=w, a=a: load(folder, f"W{w}A{a}") for w, a in BITS},
    "reconstruct one block, closed form": lambda folder: reconstruct(folder, 0),
    f"reconstruct one block, {GRADIENT_STEPS} gradient steps after it": lambda f: reconstruct(f, GRADIENT_STEPS),
    "calibrate, weights on disk": lambda folder: calibrate(folder, on_disk=True),
    **{
        f"reconstruct the first {count}, closed form, weights on disk": lambda folder, count=count: reconstruct(
            folder, 0, count, on_disk=True
        )
        for count in ON_DISK
    },
}


def run(folder: Path, only: list[str], threads: int) -> None:
    """Every stage in a process of its own; the result is written after each."""
    from provenance import made_by, read_json, write_json

    setting = {"backend": "simulated", "weights": "random, seed 0", "sizes": SIZES, "threads": threads}
    content: dict[str, Any] = {"made": made_by(COMMAND) | setting, "stages": {}}
    if only:
        content["stages"] = read_json(OUT).get("stages", {})
    for name in STAGES:
        if only and name not in only:
            continue
        code = [sys.executable, __file__, "--folder", str(folder), "--threads", str(threads), "--stage", name]
        answer = subprocess.run(code, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(answer.stdout.splitlines()[-1])
        content["stages"][name] = {key: _short(value) for key, value in found.items()}
        print(name, content["stages"][name], flush=True)
        content |= _summary(content["stages"])
        write_json(OUT, content)


def stage(folder: Path, name: str, threads: int) -> None:
    """One stage, in this process; its numbers on the last line."""
    sys.path.insert(0, str(ROOT))
    import torch

    torch.set_num_threads(threads)
    numbers = STAGES[name](folder)
    print(json.dumps(numbers | {"all_seconds": time.process_time(), "peak_bytes": peak_memory()}))


def peak_memory() -> int:
    """The most resident memory that this process ever had, as the operating system counts it."""
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _float(folder: Path, on_disk: bool = False) -> Any:
    import ptq4dit

    return ptq4dit.load(folder / "float", offload_folder=folder / "offloaded" if on_disk else None)


def _loaded(
    folder: Path, weight_bits: int, activation_bits: int, reconstruction: Any = None, on_disk: bool = False
) -> tuple[Any, Any, Any]:
    import ptq4dit

    config = ptq4dit.QuantConfig(
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        modulation=True,
        conditioning=True,
        reconstruction=reconstruction,
    )
    stats = ptq4dit.Calibration.load(folder / "calibration.safetensors")
    return _float(folder, on_disk), stats, config


def _summary(stages: dict[str, Any]) -> dict[str, Any]:
    """Shares of float32's bytes, and the largest peak of all stages but the first, by where the weights are."""
    result: dict[str, Any] = {}
    for key, on_disk in {"peak_gib": False, "peak_gib_on_disk": True}.items():
        peaks = [n["peak_bytes"] for name, n in stages.items() if name != "build" and ("on disk" in name) == on_disk]
        result |= {key: round(max(peaks) / 2**30, 2)} if peaks else {}
    if "build" in stages:
        for key in ("float32_bytes", "float32_bytes_copies_once"):
            result[f"share_of_{key}"] = {
                name.removeprefix("quantize "): round(numbers["checkpoint_bytes"] / stages["build"][key], 4)
                for name, numbers in stages.items()
                if "checkpoint_bytes" in numbers
            }
    return result


def _short(value: Any) -> Any:
    return round(value, 1) if isinstance(value, float) else value


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=None, help="for 7 GB of files; a temporary one if not given")
    parser.add_argument("--only", nargs="+", default=[], help="stages to run again; all if none")
    parser.add_argument("--stage", default=None, help="run one stage in this process")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if args.stage is not None:
        stage(args.folder, args.stage, args.threads)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            run(args.folder or Path(scratch), args.only, args.threads)
