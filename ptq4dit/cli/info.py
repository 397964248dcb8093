"""``info``: what a model is, and what of it can be balanced for free."""

import argparse
from collections import Counter
from typing import Any

import ptq4dit
from ptq4dit.cli.report import Report, lines
from ptq4dit.cli.source import add_model, model_source, open_model

HELP = "Say what a model is: its family, its sites and what absorbs their factors, bits, how it was made."


def add_options(command: argparse.ArgumentParser) -> None:
    """What can be asked."""
    add_model(command, "a pipeline folder, a hub id, a .pt file, or a folder that quantize wrote; the demo if none")


def run(options: argparse.Namespace) -> Report:
    """Open it and describe it."""
    from ptq4dit.model.families.registry import family_of

    model = open_model(model_source(options), options.device)
    transformer = model.torch_transformer
    family, blocks = family_of(transformer), _blocks(transformer)
    about = ptq4dit.describe(model) | {
        "class": type(transformer).__name__,
        "family": family.name,
        "classes": dict(model.id2label),
        "latents": model.latent_shape if model.id2label else None,
        "blocks": blocks,
        "tensor_bytes": sum(t.numel() * t.element_size() for t in transformer.state_dict().values()),
    }
    sites = [] if about["quantized"] else _sites(transformer)
    named = f"{len(model.id2label)}, from {model.id2label[0]!r} on" if model.id2label else "none: prompts"
    text = lines(about | {"classes": named})
    return Report(content=about | {"sites": sites}, text=f"{text}\n\n{_table(sites)}" if sites else text)


def _blocks(transformer: Any) -> int:
    from ptq4dit.model.families.registry import family_of

    return len(family_of(transformer).blocks(transformer))


def _sites(transformer: Any) -> list[dict[str, Any]]:
    """One entry for every kind of site: how many there are, their widths, what absorbs, what does not."""
    from ptq4dit.model.families.absorber import InputFactor, Split

    def absorber(given: Any) -> str:
        if isinstance(given, Split):
            return " + ".join(absorber(part) for _, part in given.parts)
        if isinstance(given, InputFactor):
            return f"the rounding ({given.why})"
        return {"Modulation": "its modulation", "Rows": "what is in front"}[type(given).__name__]

    found = Counter(
        (_kind(layer.name), layer.in_features, len(layer.paths), absorber(layer.absorber))
        for layer in ptq4dit.balanced_layers(transformer).values()
    )
    names = ("site", "channels", "linears", "absorbed_by")
    return [dict(zip(names, key, strict=True)) | {"count": count} for key, count in found.items()]


def _kind(name: str) -> str:
    """``"blocks.3.context.qkv"`` -> ``"blocks.*.context.qkv"``."""
    return ".".join("*" if word.isdigit() else word for word in name.split("."))


def _table(sites: list[dict[str, Any]]) -> str:
    head = ("site", "how many", "channels", "linears", "its factor is absorbed by")
    keys = ("site", "count", "channels", "linears", "absorbed_by")
    rows = [head, *(tuple(str(site[key]) for key in keys) for site in sites)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
