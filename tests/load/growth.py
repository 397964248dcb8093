"""How time and memory grow: `python tests/load/growth.py` prints the table; `... memory BLOCKS WIDTH` one line of JSON.

The sweep varies one of blocks, images and timesteps of a small DiT at a time, on one thread, each the best of five in
turn. Cost is linear where doubling what is varied doubles what is added: the last column is that ratio, 2 where it is
exactly so.

The memory is that of calibrating and rounding, in closed form, a model of FLUX's double and single blocks whose weights
are on disk, written there block by block, so that no more than one of them is ever in memory.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import ptq4dit
from ptq4dit.calibration.joined_calls import Part, join
from ptq4dit.calibration.recorded_calls import RecordedCall
from ptq4dit.calibration.trajectories import Trajectories
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.storage.memory import give_back_at_once, held_bytes

HEAD = 128
CLOSED_FORM = ReconstructionConfig(held_out=0.0, tokens=2**12)
SAMPLES, TOKENS, WORDS = 4, 64, 16
TIMES = (0.75, 0.25)
SWEEP = {"blocks": (4, 8, 16), "images": (8, 16, 32), "timesteps": (4, 8, 16)}
SIZES: dict[str, int] = {"blocks": 4, "images": 8, "timesteps": 4}
ROUNDS = 5


def on_disk(blocks: int, width: int, folder: Path) -> Any:
    """A transformer of FLUX's shape with random weights in a folder: one double block to two single ones."""
    from accelerate import disk_offload, init_empty_weights
    from accelerate.utils.offload import offload_weight, save_offload_index
    from diffusers import FluxTransformer2DModel

    double = max(1, blocks // 3)
    heads, axes = width // HEAD, (16, 56, 56)
    with init_empty_weights():
        transformer = FluxTransformer2DModel(
            num_layers=double,
            num_single_layers=blocks - double,
            num_attention_heads=heads,
            attention_head_dim=HEAD,
            axes_dims_rope=axes,
            joint_attention_dim=4096,
            pooled_projection_dim=768,
            in_channels=64,
        )
    generator, index = torch.Generator().manual_seed(0), dict[str, Any]()
    for name, parameter in transformer.named_parameters():
        fan_in = parameter.shape[1:].numel() if parameter.ndim > 1 else 16
        index = offload_weight(torch.randn(parameter.shape, generator=generator) / fan_in**0.5, name, folder, index)
    save_offload_index(index, folder)
    return disk_offload(transformer, folder, execution_device=torch.device("cpu")).eval()


def recorded(transformer: Any) -> Trajectories:
    """Calls at two timesteps with random inputs."""
    generator = torch.Generator().manual_seed(1)
    parts = []
    for step, timestep in enumerate(TIMES):
        inputs = {
            "hidden_states": torch.randn(SAMPLES, TOKENS, 64, generator=generator),
            "encoder_hidden_states": torch.randn(SAMPLES, WORDS, 4096, generator=generator),
            "pooled_projections": torch.randn(SAMPLES, 768, generator=generator),
            "timestep": torch.full((SAMPLES,), timestep),
            "img_ids": torch.cartesian_prod(torch.zeros(1), torch.arange(8.0), torch.arange(8.0)),
            "txt_ids": torch.zeros(WORDS, 3),
        }
        parts.append(Part(step=step, half=0, images=range(SAMPLES), call=RecordedCall.of(transformer, (), inputs)))
    config = CalibrationConfig(timesteps=len(TIMES), samples_per_timestep=SAMPLES, guidance_scale=1.0)
    return Trajectories(config=config, **join(parts))


def memory(blocks: int, width: int) -> dict[str, float]:
    """The most memory held, and the seconds of calibration and of the closed form."""
    config = QuantConfig(
        method="gptq", weight_bits=4, csb=False, ssc=False, weight_range="minmax", reconstruction=CLOSED_FORM
    )
    give_back_at_once()  # as loading such a model by this package does
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        (weights := Path(folder) / "weights").mkdir()
        transformer = on_disk(blocks, width, weights)
        data, begun = recorded(transformer), time.monotonic()
        with ptq4dit.watch(transformer) as seen:
            for timestep in TIMES:
                data.call((data.timesteps == timestep).nonzero()[:, 0]).on(transformer)
        stats, calibrated = seen.calibration(), time.monotonic()
        ptq4dit.quantize_transformer(transformer, stats, config, data=data, offload_folder=Path(folder) / "integers")
        return {
            "blocks": blocks,
            "weights_mb": sum(path.stat().st_size for path in weights.iterdir()) / 1e6,
            "peak_mb": held_bytes().get("VmHWM", 0) / 1e6,
            "seconds_calibrating": round(calibrated - begun, 2),
            "seconds_rounding": round(time.monotonic() - calibrated, 2),
        }


def sweep(tell: Callable[[str], None]) -> None:
    """Processor seconds of a calibration and of the closed form, one of the sizes varied at a time."""
    from tests.conftest import ddim_scheduler, random_transformer, random_vae

    torch.set_num_threads(1)  # several wait for each other, and waiting counts as work
    tell("| what | calibration, s | closed form, s | growth of the two, 2 is linear |\n| --- | --- | --- | --- |")
    for varied, values in SWEEP.items():
        rounds = dict[int, list[tuple[float, float]]]()
        for value in values * ROUNDS:
            sizes = SIZES | {varied: value}
            heads = {"num_attention_heads": 4, "attention_head_dim": 32, "sample_size": 16}
            transformer = random_transformer(num_layers=sizes["blocks"], **heads)
            dit = ptq4dit.bundle(transformer, random_vae(), ddim_scheduler(), dict(enumerate("abcde")))
            asked = CalibrationConfig(
                timesteps=sizes["timesteps"], steps=sizes["timesteps"], samples_per_timestep=sizes["images"]
            )
            rounds.setdefault(value, []).append(_seconds(dit, asked, sizes["images"]))
        seconds = [tuple(map(min, zip(*taken, strict=True))) for taken in rounds.values()]
        ratios = [(c - b) / (b - a) for a, b, c in zip(*seconds, strict=True)]
        for number, (value, (one, other)) in enumerate(zip(values, seconds, strict=True)):
            growth = " and ".join(f"{ratio:.1f}" for ratio in ratios) if number == len(values) - 1 else ""
            tell(f"| {value} {varied} | {one:.2f} | {other:.2f} | {growth} |")


def _seconds(dit: Any, asked: CalibrationConfig, images: int) -> tuple[float, float]:
    """Processor seconds of calibrating, and of rounding in closed form what was collected beforehand."""
    begun = time.process_time()
    stats = ptq4dit.calibrate(dit, asked)
    calibrated = time.process_time() - begun
    data = ptq4dit.collect(dit, asked)
    learned = ReconstructionConfig(held_out=0.0, images=images, tokens=2**20)
    begun = time.process_time()
    ptq4dit.quantize(dit, stats, QuantConfig(method="gptq", weight_bits=4, reconstruction=learned), data=data)
    return calibrated, time.process_time() - begun


def main() -> None:
    """Print what was asked for."""
    if sys.argv[1:2] == ["memory"]:
        blocks, width = (int(one) for one in [*sys.argv[2:], *("6", "256")[len(sys.argv) - 2 :]])
        print(json.dumps(memory(blocks, width)))
    else:
        sweep(lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
