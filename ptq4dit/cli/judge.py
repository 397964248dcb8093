"""Who judges pictures: the model's own classifier, or Inception by a folder of real ones."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ptq4dit.parallel import processes

if TYPE_CHECKING:
    from ptq4dit import Dit
    from ptq4dit.benchmark.measure import Judge


def add_judge(command: argparse.ArgumentParser) -> None:
    """``--real``."""
    command.add_argument("--real", default=None, help="folder of real pictures, to judge by Inception (torch-fidelity)")


def open_judge(options: argparse.Namespace, dit: "Dit") -> "Judge | None":
    """The judge that was asked for; None where the model has no classifier of its own."""
    import torch

    from ptq4dit.benchmark.measure import Judge
    from ptq4dit.metrics.inception import Inception

    if options.real is None:
        return Judge.load(Path(dit.source))
    inception = Inception.load(options.device)
    if not processes().first:  # measures pictures; the real ones are for whoever puts all together
        return Judge(classifier=inception, pooled=torch.empty(0, 0), spatial=torch.empty(0, 0))
    size = dit.latent_shape[1] * 2 ** (len(dit.vae.config.block_out_channels) - 1)
    return Judge.of_pictures(Path(options.real), size, inception)
