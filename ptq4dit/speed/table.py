"""A measurement of speed as a Markdown table."""

from typing import Any

_HEAD = ("what", "bits", "execution", "ms", "quartiles", "times baseline", "s per image", "load, s", "memory, MB")
_MORE = ("disk, MB", "error", "floor, ms")


def markdown(content: dict[str, Any], batch: int) -> str:
    """One row a contestant, in their order; whoever was not measured has the reason in place of numbers."""
    head = (*_HEAD, *_MORE)
    rows = [_row(result, str(batch), len(head)) for result in content["contestants"].values()]
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _row(result: dict[str, Any], batch: str, width: int) -> tuple[str, ...]:
    first = (result["name"], result["label"], result["execution"])
    if result["status"] != "measured":
        return (*first, f"{result['status']}: {result['reason']}", *[""] * (width - 4))
    numbers, fresh = result["batches"][batch], result["fresh_process"]
    low, high = numbers["ms_quartiles"]
    return (
        *first,
        f"{numbers['ms']:.2f}",
        f"{low:.2f} to {high:.2f}",
        f"{numbers['speedup']:.2f}",
        f"{numbers['ms_per_image'] / 1e3:.2f}",
        f"{result['load_and_compile_s']:.1f}",
        f"{fresh['own_mb']:.0f}" if fresh.get("own_mb") is not None else fresh.get("error", "not known here"),
        f"{result['disk_bytes'] / 1e6:.1f}",
        f"{numbers['error']:.2g}",
        f"{numbers['floor']['operations_ms']:.2f}",
    )
