"""The benchmark as a table of text."""

from collections.abc import Mapping
from typing import Any

from ptq4dit.metrics.interval import paired_difference
from ptq4dit.storage.markdown import markdown_table

COLUMNS: dict[str, tuple[str, str]] = {
    "psnr": ("PSNR", "{:.2f}"),
    "ssim": ("SSIM", "{:.4f}"),
    "drift": ("drift", "{:.4f}"),
    "frechet": ("Frechet", "{:.2f}"),
    "spatial_frechet": ("spatial", "{:.3f}"),
    "inception_score": ("IS", "{:.2f}"),
    "precision": ("prec.", "{:.2f}"),
    "recall": ("recall", "{:.2f}"),
    "class_accuracy": ("class", "{:.2f}"),
}
"""Metric -> heading and format."""


def markdown(content: Mapping[str, Any], strength: int, label: str, *, factorial: bool = False) -> str:
    """One bit-width at one setting of the dial as a Markdown table: means, and how each method's PSNR differs.

    The difference is paired, picture by picture from the same noise, against PTQ4DiT (or against PTQ4DiT without any
    of its parts), with its 95% interval: a difference whose interval holds 0 is none.

    Args:
        content: what `benchmark` returned or its file holds.
        strength: of the salience dial.
        label: such as ``"W4A8"``.
        factorial: the parts of PTQ4DiT instead of the methods.
    """
    prefix = f"x{strength}/{label}/" + ("factorial/" if factorial else "")
    rows = {
        key.removeprefix(prefix): numbers
        for key, numbers in content["results"].items()
        if key.startswith(prefix) and "/" not in key.removeprefix(prefix)
    }
    if not rows:
        return ""
    names = [name for name in COLUMNS if name in next(iter(rows.values()))["metrics"]]
    base = "none" if factorial else "ptq4dit"
    head = [
        "parts" if factorial else "method",
        *(COLUMNS[name][0] for name in names),
        f"PSNR - {base}",
        "CPU s",
        "MB",
        *([] if factorial else ["adds to a forward pass"]),
    ]
    lines = []
    for name, numbers in rows.items():
        title = name if factorial else content["methods"][name]["title"]
        cells = [_cell(metric, numbers["metrics"][metric]) for metric in names]
        difference = "" if base not in rows or name == base else _difference(numbers, rows[base])
        sizes = f"{numbers['cpu_seconds']:.0f}", f"{numbers['bytes'] / 1e6:.2f}"
        lines.append([title, *cells, difference, *sizes, *([] if factorial else [adds(content, label, name)])])
    return markdown_table(head, lines) + "\n"


def adds(content: Mapping[str, Any], label: str, name: str) -> str:
    """What a method adds to a forward pass, for a table: measured where integers run it, else in words.

    Args:
        content: what `benchmark` returned or its file holds.
        label: such as ``"W4A8"``.
        name: of the method.
    """
    cost = content.get("costs", {}).get(f"{label}/{name}")
    if cost is None or "added_ms" not in cost:
        return str(content["methods"][name]["inference"])
    share = 100 * cost["added_ms"] / cost["static_ms"]
    return f"{cost['added_ms']:+.2f} ms ({share:+.0f}%)"


def _difference(numbers: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    gain = paired_difference(numbers["psnr_each"], base["psnr_each"])
    return f"{gain.mean:+.2f} ({gain.low:+.2f} to {gain.high:+.2f})"


def _cell(metric: str, interval: Mapping[str, float | None]) -> str:
    text = COLUMNS[metric][1].format(interval["mean"])
    if metric != "psnr" or interval["high"] is None or interval["mean"] is None:
        return text
    return f"{text} ± {interval['high'] - interval['mean']:.2f}"
