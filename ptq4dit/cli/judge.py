"""Who judges pictures: the model's own classifier, or Inception by a folder of real ones."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptq4dit import Dit
    from ptq4dit.benchmark.measure import Judge


def add_judge(command: argparse.ArgumentParser) -> None:
    """``--real``."""
    command.add_argument("--real", default=None, help="folder of real pictures, to judge by Inception (torch-fidelity)")


def open_judge(options: argparse.Namespace, dit: "Dit") -> "Judge | None":
    """The judge that was asked for; None where the model has no classifier of its own."""
    from ptq4dit.benchmark.measure import Judge
    from ptq4dit.metrics.inception import Inception

    if options.real is None:
        return Judge.load(Path(dit.source))
    size = dit.latent_shape[1] * 2 ** (len(dit.vae.config.block_out_channels) - 1)
    return Judge.of_pictures(Path(options.real), size, Inception.load(options.device))
