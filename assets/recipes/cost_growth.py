"""Measure how cost grows: time and memory of a DiT against tokens, rows, blocks and width, part by part, on this CPU.

    python assets/recipes/cost_growth.py

Random weights of DiT-XL/2's kind with few blocks, one of the four sizes varied at a time. Each point is a measurement
of `python -m ptq4dit speed`: torch in float32 and W8A8 on integers in turn, the integer pass part by part by OpenVINO's
own account, memory in a process of its own; seconds are the processor's, of one thread. Fitted are exponents: time is
proportional to size ** exponent. A run that was stopped goes on where it was. Seconds of a whole image are put together
from what was measured: one pass of 28 blocks from one block and two, times the steps, and the autoencoder's decoding.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cost_figure import figure, tables
from cost_laws import PARTS, ROWS, STEPS, Point, fits, images
from provenance import ROOT, made_by, read_json, write_json

sys.path.insert(0, str(ROOT))

OUT = ROOT / "assets" / "demo" / "results" / "cost_growth.json"
FIGURE = ROOT / "assets" / "screenshots" / "cost_growth.webp"
COMMAND = "python assets/recipes/cost_growth.py"
FLOAT, OURS = "torch-fp32", "ours-w8a8"
HEAD, ALL_ROWS = 72, (1, 2, 4, 8)
"""Channels of a head; rows of their sweep, at the first point. An image with guidance takes two rows."""
POINTS = (
    *((1, 16, 32), (2, 16, 32), (1, 16, 64), (2, 16, 64), (1, 8, 32), (4, 16, 32), (1, 24, 32)),
    *((1, 16, 128), (1, 16, 96), (1, 16, 48), (1, 4, 32)),
)
"""Blocks, heads and side of the latents: tokens are the square of half of it. What tells most comes first."""
NO_PEAKS = dict.fromkeys(("fp32_macs", "bf16_macs", "int8_macs", "bytes_per_s"), 1.0)
"""Floors are not looked at."""


def measure(blocks: int, heads: int, side: int, rounds: int) -> list[Point]:
    """One or more points: times in turn, parts, and memory of every number of rows in a process of its own."""
    from ptq4dit.speed import run
    from ptq4dit.speed.config import XL, SpeedConfig
    from ptq4dit.speed.contestants.registry import ALL
    from ptq4dit.speed.memory_probe import resident_in_a_child

    image = blocks < 3 and heads == 16 and side in (32, 64)
    rows = ALL_ROWS if (blocks, heads, side) == POINTS[0] else (1, 2) if image else (ROWS,)
    with tempfile.TemporaryDirectory(prefix="ptq4dit-growth-") as folder:
        config = SpeedConfig(
            source=XL,
            blocks=blocks,
            heads=heads,
            side=side,
            batches=rows,
            rounds=rounds,
            only=(OURS,),
            steps=STEPS,
            threads=1,
            processor_time=True,
            profile=True,
            together=True,
            keep=folder,
        )
        content = run.measure_speed(config, {}, machine=NO_PEAKS)
        found = content["contestants"]
        memory = {key: {rows[0]: found[key]["fresh_process"]} for key in (FLOAT, OURS)}
        for key, each in memory.items():
            built = Path(folder) / "built" / ALL[key].built
            each |= {row: resident_in_a_child(key, Path(folder), built, row, 1) for row in rows[1:]}
            if failed := [one["error"] for one in each.values() if "error" in one]:
                raise SystemExit(f"{key}: {failed[0]}")
    about = {name: content["model"][name] for name in ("blocks", "width", "tokens")}
    return [
        about | {"rows": row, "once": found[OURS]["once_ms"]} | point({key: found[key] for key in memory}, memory, row)
        for row in sorted(rows)
    ]


def point(found: dict[str, Any], memory: dict[str, Any], rows: int) -> Point:
    """Milliseconds and MB of one point; the pass is shared out as the profiled one was."""
    numbers = {key: result["batches"][str(rows)] for key, result in found.items()}
    return parts(numbers[OURS]["profile"], numbers[OURS]["ms"]) | {
        "ours": numbers[OURS]["ms"],
        "float": numbers[FLOAT]["ms"],
        "ours_mb": memory[OURS][rows]["own_mb"],
        "float_mb": memory[FLOAT][rows]["own_mb"],
        "ours_peak_mb": memory[OURS][rows]["peak_mb"],
        "float_peak_mb": memory[FLOAT][rows]["peak_mb"],
    }


def parts(profile: dict[str, Any], ms_of_pass: float) -> Point:
    """Milliseconds of the products of weights, of the attention, and of all that is neither, shared out as profiled."""
    kinds = {kind: numbers["ms"] for kind, numbers in profile["kinds"].items()}
    products = sum(ms for kind, ms in kinds.items() if kind.startswith("product ") or kind == "other products")
    attention = kinds.get("attention", 0.0)
    whole = sum(kinds.values())
    shares = products / whole, attention / whole, 1 - (products + attention) / whole
    return {name: round(share * ms_of_pass, 3) for name, share in zip(PARTS, shares, strict=True)}


def decoding() -> dict[str, float]:
    """Seconds of decoding one image of 256 and 512 pixels by an autoencoder of the original's size, in float32."""
    import torch

    from ptq4dit.speed.images import sd_autoencoder

    torch.set_num_threads(1)
    vae, seconds = sd_autoencoder(), {}
    with torch.no_grad():
        for pixels in (256, 512):
            given, each = torch.randn(1, 4, pixels // 8, pixels // 8), []
            for _ in range(3):
                begun = time.process_time()
                vae.decode(given)
                each.append(time.process_time() - begun)
            seconds[str(pixels)] = round(statistics.median(each), 3)
    return seconds


def run(rounds: int, again: bool) -> None:
    """All points that are not there yet; the file is written after each."""
    content: dict[str, Any] = {} if again or not OUT.is_file() else read_json(OUT)
    made = made_by(COMMAND) | {"weights": "random, seed 0", "rounds": rounds, "backend": "integer"}
    made |= {"seconds": "of the processor, one thread"}
    made["hardware"]["threads"] = 1
    content = {"format": "ptq4dit-cost-growth-1", "made": made} | content
    points = content.setdefault("points", [])
    for blocks, heads, side in POINTS:
        size = {"blocks": blocks, "width": heads * HEAD, "tokens": (side // 2) ** 2}
        if any(size.items() <= one.items() for one in points):
            continue
        begun = time.monotonic()
        points += measure(blocks, heads, side, 2 if side > 64 else rounds)
        print(size, f"{time.monotonic() - begun:.0f} s", points[-1], flush=True)
        write_json(OUT, content)
    if "decode_s" not in content:
        content["decode_s"] = decoding()
    content |= {"fits": fits(points), "images": images(points, content["decode_s"])}
    write_json(OUT, content)
    figure(content).savefig(FIGURE, pil_kwargs={"quality": 85, "method": 6})
    print("\n\n".join(tables(content).values()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    args = parser.parse_args()
    run(args.rounds, args.again)
