"""``info``: what a model is."""

import argparse

import ptq4dit
from ptq4dit.cli.report import Report, lines
from ptq4dit.cli.source import add_model, model_source, open_model

HELP = "Say what a model is: classes, blocks, bits, how it was made."


def add_options(command: argparse.ArgumentParser) -> None:
    """What can be asked."""
    add_model(command, "a DiTPipeline folder, a hub id, a .pt file, or a folder that quantize wrote; the demo if none")


def run(options: argparse.Namespace) -> Report:
    """Open it and describe it."""
    model = open_model(model_source(options), options.device)
    about = ptq4dit.describe(model) | {
        "classes": dict(model.id2label),
        "latents": model.latent_shape,
        "blocks": len(model.torch_transformer.transformer_blocks),
        "tensor_bytes": sum(t.numel() * t.element_size() for t in model.torch_transformer.state_dict().values()),
    }
    shown = about | {"classes": f"{len(model.id2label)}, from {model.id2label[0]!r} on"}
    return Report(content=about, text=lines(shown))
