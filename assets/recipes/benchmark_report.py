"""Make the READMEs' tables and the figure of the benchmark from what is stored: methods, ours' parts, speed.

python assets/recipes/benchmark_report.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from provenance import ROOT, read_json

sys.path.insert(0, str(ROOT))

from matplotlib.figure import Figure

from ptq4dit.benchmark.table import adds
from ptq4dit.metrics.interval import paired_difference
from ptq4dit.storage.markdown import markdown_table

RESULTS = ROOT / "assets/demo/results/benchmark.json"
FIGURE = ROOT / "assets/screenshots/benchmark.webp"
PARTS = ROOT / "assets/demo/results/ours_parts.json"
SPEED = ROOT / "assets/demo/results/speed_xl_in_turn.json"
FIXED = ROOT / "assets/demo/results/speed_fixed_batch.json"
README, ENGINE, METHODS = (ROOT / folder / "README.md" for folder in ("", "ptq4dit", "ptq4dit/methods"))
LABELS = ("W8A8", "W4A8", "W4A6")
SHORT = ("rtn", "svdquant", "dynamic", "ptq4dit", "ours")
OURS, PUBLISHED, OTHER, TEXT = "#009E73", "#2A86C2", "#9AA5B4", "#4B5563"


def cell(content: dict[str, Any], strength: int, label: str, name: str) -> dict[str, Any] | None:
    """One model's numbers, if measured."""
    return content["results"].get(f"x{strength}/{label}/{name}")


def places() -> list[tuple[str, int, str]]:
    """Heading, strength and bits of the columns."""
    return [
        (f"{bits}{', salience x8' if strength > 1 else ''}", strength, bits) for strength in (1, 8) for bits in LABELS
    ]


def short_table(content: dict[str, Any]) -> str:
    """The same of the few that tell most."""
    return table(content, SHORT)


def table(content: dict[str, Any], names: Sequence[str] = ()) -> str:
    """Mean PSNR to full precision of every method, and where it differs from PTQ4DiT picture by picture."""
    head = ["method", *(title for title, *_ in places()), "adds"]
    lines = []
    for name in names or content["methods"]:
        about = content["methods"][name]
        cells = [compared(content, strength, label, name) for _, strength, label in places()]
        lines.append([about["title"], *cells, adds(content, "W8A8", name)])
    return markdown_table(head, lines)


def compared(content: dict[str, Any], strength: int, label: str, name: str) -> str:
    """Mean PSNR; up or down where the paired difference to PTQ4DiT has an interval without 0."""
    mine, base = cell(content, strength, label, name), cell(content, strength, label, "ptq4dit")
    if mine is None:
        return ""
    text = f"{mine['metrics']['psnr']['mean']:.1f}"
    if base is None or name == "ptq4dit":
        return text
    gain = paired_difference(mine["psnr_each"], base["psnr_each"])
    return text + (" ↑" if gain.low > 0 else " ↓" if gain.high < 0 else "")


def figure(content: dict[str, Any]) -> Figure:
    """Points with 95% intervals: rows are methods, panels are bits, one colour for each kind of method."""
    names = [name for name in content["methods"] if cell(content, 1, "W4A8", name)]
    result = Figure(figsize=(11, 0.32 * len(names) + 1.2), dpi=120, layout="constrained")
    panels = result.subplots(1, len(LABELS), sharey=True)
    for panel, label in zip(panels, LABELS, strict=True):
        for row, name in enumerate(reversed(names)):
            for strength, marker, shift in ((1, "o", 0.15), (8, "D", -0.15)):
                if (numbers := cell(content, strength, label, name)) is None:
                    continue
                mean, high = numbers["metrics"]["psnr"]["mean"], numbers["metrics"]["psnr"]["high"]
                colour = {"ours": OURS, "ptq4dit": PUBLISHED}.get(name, OTHER)
                filled = colour if strength == 1 else "white"
                panel.errorbar(
                    mean, row + shift, xerr=high - mean, fmt=marker, color=colour, mfc=filled, ms=5, lw=1.2, capsize=2
                )
        panel.set_title(f"{label}, simulated", fontsize=10, color=TEXT)
        panel.set_xlabel("PSNR to full precision, dB", fontsize=9, color=TEXT)
        panel.grid(axis="x", color="#E5E7EB", lw=0.6)
        panel.tick_params(labelsize=9, colors=TEXT, length=0)
        for spine in panel.spines.values():
            spine.set_visible(False)
    panels[0].set_yticks(range(len(names)), [content["methods"][name]["title"] for name in reversed(names)])
    result.suptitle(
        "Same noise, labels and calibration: 95% intervals over pictures. Filled: as trained; open: salience x8",
        fontsize=10,
        color=TEXT,
    )
    return result


def factorial_table(content: dict[str, Any]) -> str:
    """Mean PSNR of PTQ4DiT's parts, each with and without reconstruction and dynamic scales."""
    head = ["balancing", "scales", "integers", *(title for title, *_ in places())]
    lines = []
    for parts, title in (("none", "none"), ("csb", "CSB"), ("csb+ssc", "CSB and SSC")):
        for dynamic, scales in (("", "static"), ("+dynamic", "for every token")):
            for learned, integers in (("", "nearest"), ("+reconstruction", "closed form")):
                key = f"factorial/{parts}{dynamic}{learned}"
                found = [cell(content, strength, label, key) for _, strength, label in places()]
                numbers = ["" if row is None else f"{row['metrics']['psnr']['mean']:.1f}" for row in found]
                lines.append([title, scales, integers, *numbers])
    return markdown_table(head, lines)


def parts_table(content: dict[str, Any]) -> str:
    """What each part of ours brings, paired by picture with PTQ4DiT, and how far ours is above each row."""
    results = content["results"]
    head = ["bits", "recipe", "PSNR", "above PTQ4DiT", "ours above it", "processor seconds"]
    lines = []
    for key, row in results.items():
        bits, name = key.split("/")
        base, ours = results[f"{bits}/PTQ4DiT"], results[f"{bits}/ours"]
        above = gain(row, base) if name != "PTQ4DiT" else ""
        rest = gain(ours, row) if name != "ours" else ""
        lines.append([bits, name, f"{row['psnr']:.1f}", above, rest, f"{row['cpu_seconds']:,.0f}"])
    return markdown_table(head, lines)


def gain(row: dict[str, Any], base: dict[str, Any]) -> str:
    """How far one row's pictures are above another's, with the interval."""
    apart = paired_difference(row["psnr_each"], base["psnr_each"])
    return f"{apart.mean:+.1f} ({apart.low:.1f} to {apart.high:.1f})"


def speed_table(content: dict[str, Any], title: str) -> str:
    """Milliseconds of two rows, memory, bytes and error of each contestant; how many times the float ones take."""
    rows = content["contestants"]
    bases = [key for key in ("torch-fp32", "torch-bf16", "openvino-fp32") if key in rows]
    ratios = [f"{rows[key]['name']} / this" for key in bases]
    head, lines = [title, "execution", "ms", *ratios, "resident MB", "MB on disk", "error"], []
    timed = {key: row["batches"]["2"] for key, row in rows.items()}
    for key, row in rows.items():
        ms = timed[key]["ms"]
        times = [f"{timed[base]['ms'] / ms:.2f}x" for base in bases]
        megabytes = [f"{row['fresh_process']['own_mb']:.0f}", f"{row['disk_bytes'] / 1e6:.0f}"]
        lines.append(
            [
                row["name"],
                row["execution"],
                f"{ms:.0f}" if ms > 100 else f"{ms:.2f}",
                *times,
                *megabytes,
                f"{timed[key]['error']:.2g}",
            ]
        )
    return markdown_table(head, lines)


def speed_tables() -> dict[str, str]:
    """The tables of speed by name."""
    return {
        "speed": speed_table(read_json(SPEED), "DiT-XL/2's size"),
        "fixed batch": speed_table(read_json(FIXED), "demo model"),
    }


def with_table(readme: str, name: str, text: str) -> str:
    """A README with the table of that name, between its two markers, replaced."""
    begin, end = f"<!-- {name} table -->", f"<!-- end of {name} table -->"
    before, rest = readme.split(begin)
    after = rest.split(end)[1]
    return f"{before}{begin}\n{text}\n{end}{after}"


def texts() -> dict[Path, str]:
    """The READMEs with every table as the stored results make it."""
    content = read_json(RESULTS)
    tables = {
        README: {"short": short_table(content)},
        ENGINE: speed_tables(),
        METHODS: {
            "benchmark": table(content),
            "factorial": factorial_table(content),
            "parts": parts_table(read_json(PARTS)),
        },
    }
    result = {}
    for path, named in tables.items():
        text = path.read_text(encoding="utf-8")
        for name, one in named.items():
            text = with_table(text, name, one)
        result[path] = text
    return result


def main() -> None:
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
    figure(read_json(RESULTS)).savefig(FIGURE, pil_kwargs={"quality": 85, "method": 6})


if __name__ == "__main__":
    main()
