"""A measurement of speed as a Markdown table."""

from typing import Any

from ptq4dit.storage.markdown import markdown_table

_HEAD = ("what", "bits", "execution", "ms", "quartiles", "times baseline", "s per image", "load, s", "memory, MB")
_MORE = ("disk, MB", "error", "floor, ms")
_OWN, _PICTURES = "error, own inputs", "PSNR, dB"


def markdown(content: dict[str, Any], batch: int) -> str:
    """One row a contestant, in their order; whoever was not measured has the reason in place of numbers."""
    results = content["contestants"].values()
    asked = [name for name, key in ((_OWN, "own_error"), (_PICTURES, "psnr")) if any(key in one for one in results)]
    head = (*_HEAD, *_MORE, *asked)
    rows = [(*_row(one, str(batch), len(_HEAD + _MORE)), *_quality(one, asked)) for one in results]
    return markdown_table(head, rows) + "\n"


def _quality(result: dict[str, Any], asked: list[str]) -> list[str]:
    """What was found of the columns that only some measurements have."""
    psnr = result.get("psnr")
    found = {
        _OWN: f"{result['own_error']:.2g}" if "own_error" in result else "",
        _PICTURES: f"{psnr['mean']:.1f} ({psnr['low']:.1f} to {psnr['high']:.1f})" if psnr else "",
    }
    return [found[name] for name in asked]


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
