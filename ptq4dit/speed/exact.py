"""What every contestant's output is compared with: the float model in float64."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.speed.subject import Inputs, Subject


def exact_output(subject: Subject, inputs: Inputs) -> Float[Tensor, "row channel height width"]:
    """The float model's output in float64; one block at a time is in float64, so that large models fit in memory."""
    transformer = subject.transformer()
    for name, module in transformer.named_children():
        if name != "transformer_blocks":
            module.double()
    first, *others = transformer.transformer_blocks
    first.double()  # its embedders are used outside of it, too
    for block in others:
        block.register_forward_pre_hook(_widen)
        block.register_forward_hook(_narrow)
    given = inputs.cast(torch.float64)
    with torch.no_grad():
        return transformer(given.latents, timestep=given.timesteps, class_labels=given.labels).sample


def relative_error(output: Float[Tensor, "..."], exact: Float[Tensor, "..."]) -> float:
    """``|output - exact| / |exact|`` over all values."""
    return float(f"{float((output.double() - exact).norm() / exact.norm()):.4g}")


def _widen(block: nn.Module, _: Any) -> None:
    block.double()


def _narrow(block: nn.Module, *_: Any) -> None:
    block.float()
