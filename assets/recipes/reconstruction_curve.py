"""How fast the error of a block falls: 20,000 steps of AdaRound as in the paper, against the closed form and few steps.

python assets/recipes/reconstruction_curve.py --blocks 4

All round the same block of the demo model at W4A8, all blocks before it float, and are measured on the same images,
which none has seen. AdaRound learns from the paper's data (32 images at 25 timesteps), the closed form once from the
same data and once from more samples of more images: it is quick enough to use them. From there 500 steps of AdaRound,
at a high rate, polish it. AdaRound also runs in a quarter of its steps at four times its rates, as `ours_parts.py` runs
it on all blocks. Time is processor time of the reconstruction alone; sampling the data is stated beside it,
measurements are left out. Saved after each curve; run again, it makes the missing ones. The README's figure is drawn
from what is stored.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

from provenance import ROOT, made_by, of_model, read_json, write_json

sys.path.insert(0, str(ROOT))

import torch
from matplotlib.figure import Figure

import ptq4dit
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.paper.reparam import reparameterize
from ptq4dit.quantized.balance import model_factors
from ptq4dit.quantized.convert import convert
from ptq4dit.reconstruction.adaround import Softened, train_block
from ptq4dit.reconstruction.blocks import BlockPair
from ptq4dit.reconstruction.closed_form import round_block
from ptq4dit.reconstruction.data import BlockData
from ptq4dit.reconstruction.run import block_error
from ptq4dit.reconstruction.walk import Walk

OUT = ROOT / "assets/demo/results/reconstruction.json"
FIGURE = ROOT / "assets/screenshots/reconstruction.webp"
COMMAND = "python assets/recipes/reconstruction_curve.py"
TEXT = "#4B5563"
LOOKS = {
    "AdaRound": ("#9AA5B4", "o"),
    "closed form": ("#2A86C2", "s"),
    "closed form, more images": ("#D55E00", "D"),
    "closed form, polished, same data": ("#7FCDB4", "v"),
    "closed form, polished": ("#009E73", "^"),
}
"""Colour and mark of each way."""
MEASUREMENTS = 40
UNSEEN = 10_000
"""Index of the first image of the held-out ones."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Way:
    """A way to reconstruct, and the data it is given: ``samples`` of ``images`` sampled in ``steps`` steps."""

    config: ReconstructionConfig
    images: int
    steps: int
    samples: int | None = None


WAYS = {
    "AdaRound": Way(config=ReconstructionConfig.paper(regularization=1e-3), images=32, steps=50),
    "AdaRound, a quarter of the steps": Way(
        config=ReconstructionConfig.paper(
            steps=5000, learning_rate=4e-3, activation_learning_rate=1.6e-3, regularization=1e-3
        ),
        images=32,
        steps=50,
    ),
    "closed form": Way(config=ReconstructionConfig(held_out=0), images=32, steps=50),
    "closed form, more images": Way(config=ReconstructionConfig(held_out=0), images=256, steps=25, samples=4096),
    "closed form, polished, same data": Way(config=ReconstructionConfig(held_out=0, steps=500), images=32, steps=50),
    "closed form, polished": Way(
        config=ReconstructionConfig(held_out=0, steps=500), images=256, steps=25, samples=4096
    ),
}


class Stopwatch:
    """Processor time since it was made, without what happens in `paused`."""

    def __init__(self) -> None:
        self.begun, self.lost = time.process_time(), 0.0

    def read(self) -> float:
        """Seconds."""
        return time.process_time() - self.begun - self.lost

    def measure(self, pair: BlockPair, held: BlockData) -> tuple[float, float]:
        """Seconds so far and the held-out error, whose own time does not count."""
        seconds, start = self.read(), time.process_time()
        error = block_error(pair, held)
        self.lost += time.process_time() - start
        return seconds, error


def block_data(exact: Any, model: Any, data: ptq4dit.Trajectories, index: int) -> BlockData:
    """The data of one block behind float ones."""
    for position, (_, found) in enumerate(Walk(exact, exact, data)):
        if position == index:
            return dataclasses.replace(found, transformer=model.transformer)
    raise SystemExit(f"There is no block {index}.")


def curve(pair: BlockPair, inputs: BlockData, held: BlockData, config: ReconstructionConfig) -> list[dict[str, float]]:
    """Held-out error of one block against steps and seconds; the block is changed."""
    watch, generator = Stopwatch(), torch.Generator().manual_seed(config.seed)
    points: list[dict[str, Any]] = []

    def note(steps: int, label: str = "") -> None:
        seconds, error = watch.measure(pair, held)
        points.append({"steps": steps, "seconds": round(seconds, 2), "error": error, "label": label})
        print(steps, round(seconds, 1), f"{error:.4e}", label, flush=True)

    note(0, "nearest")
    targets = None
    if config.start == "gptq":
        targets = round_block(pair, inputs, config.damping, activation_scales=config.activation_scales)
        note(0, "closed form")
    every = max(1, config.steps // MEASUREMENTS)

    def after_step(done: int, soft: Softened) -> bool:
        if done % every == 0 and done < config.steps:
            start = time.process_time()
            with soft.hard():
                watch.lost += time.process_time() - start
                note(done)
        return False

    if config.steps:
        train_block(pair, inputs, torch.arange(len(inputs)), config, generator, after_step, targets)
        note(config.steps)
    return points


def sampled(dit: ptq4dit.Dit, stats: ptq4dit.Calibration, way: Way) -> tuple[ptq4dit.Trajectories, float]:
    """The data of a way, and the processor seconds that sampling them took."""
    begun = time.process_time()
    data = ptq4dit.collect(dit, dataclasses.replace(stats.config, steps=way.steps), images=way.images)
    seconds = time.process_time() - begun
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: way.samples]
    return data.take(chosen.sort().values), seconds


def run(args: argparse.Namespace) -> None:
    """All curves that are not there yet."""
    results = read_json(OUT) or {"curves": {}}
    dit = ptq4dit.load(args.model)
    stats = ptq4dit.Calibration.load(args.model / "calibration.safetensors")
    quant = ptq4dit.QuantConfig(weight_bits=4, activation_bits=8)
    factors = model_factors(stats, ptq4dit.balanced_layers(dit.transformer), quant)
    exact = reparameterize(dit.transformer, factors)
    unseen = ptq4dit.collect(dit, dataclasses.replace(stats.config, first_sample=UNSEEN), images=8)
    for name in args.ways:
        missing = [index for index in args.blocks if f"block {index}, {name}" not in results["curves"]]
        if not missing:
            continue
        data, seconds = sampled(dit, stats, WAYS[name])
        for index in missing:
            key = f"block {index}, {name}"
            model = convert(dit, stats, quant, factors)
            held, inputs = (block_data(exact, model, part, index) for part in (unseen, data))
            pair = Walk(exact, model.transformer, unseen).blocks[index]
            print(key, flush=True)
            found = {
                "block": index,
                "way": dataclasses.asdict(WAYS[name]),
                "commit": made_by(COMMAND)["commit"],
                "sampling_seconds": round(seconds, 1),
                "points": curve(pair, inputs, held, WAYS[name].config),
            }
            results = read_json(OUT) or results
            results["curves"][key] = found
            results |= {"quantization": dataclasses.asdict(quant), "threads": torch.get_num_threads()}
            write_json(OUT, results | of_model(dit.transformer) | made_by(COMMAND))


def figure(curves: dict[str, Any], index: int) -> Figure:
    """Held-out error of one block against processor seconds; what takes no steps is a point."""
    result = Figure(figsize=(8, 3.6), dpi=120, layout="constrained")
    panel = result.subplots()
    for name, (colour, mark) in LOOKS.items():
        found = curves.get(f"block {index}, {name}")
        if found is None:
            continue
        points = [point for point in found["points"] if point["seconds"] > 0]
        seconds, errors = [point["seconds"] for point in points], [point["error"] for point in points]
        panel.plot(seconds, errors, color=colour, lw=1.6, label=f"{name}: {errors[-1]:.2e} in {seconds[-1]:,.0f} s")
        panel.plot(seconds[-1:], errors[-1:], mark, color=colour, ms=7)
    panel.set(xscale="log", yscale="log")
    panel.set_xlabel("processor seconds", fontsize=9, color=TEXT)
    panel.set_ylabel("squared error on unseen images", fontsize=9, color=TEXT)
    panel.set_title(f"Block {index} of the demo model at W4A8, simulated", fontsize=10, color=TEXT)
    panel.grid(which="both", color="#E5E7EB", lw=0.5)
    panel.tick_params(which="both", labelsize=8, colors=TEXT, length=0)
    panel.legend(fontsize=8, frameon=False, labelcolor=TEXT)
    for spine in panel.spines.values():
        spine.set_visible(False)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "assets/demo")
    parser.add_argument("--blocks", type=int, nargs="+", default=[4])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    arguments = parser.parse_args()
    run(arguments)
    figure(read_json(OUT)["curves"], arguments.blocks[0]).savefig(FIGURE, pil_kwargs={"quality": 85, "method": 6})
