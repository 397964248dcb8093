"""The optimizer of the training recipes: momentum made orthogonal for matrices (Muon), Adam for everything else.

A matrix's momentum M is replaced by the nearest matrix whose singular values are all about 1, found by five
Newton-Schulz steps, so that no direction of the weights waits for another (Jordan et al. 2024). With few cores, steps
are what is dear, and this needs fewer of them than Adam. Steps are scaled to the size that Adam's would have
(Liu et al. 2025), so one learning rate serves both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

QUINTIC = (3.4445, -4.7750, 2.0315)  # drives singular values from (0, 1] to about 1 in few steps


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """U V' of the matrix's singular value decomposition, nearly: singular values come out between 0.7 and 1.2."""
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal; parameters of more than two dimensions count as (first, all others)."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95):
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step on every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group["lr"], group["momentum"])

    def _move(self, parameter: nn.Parameter, rate: float, momentum: float) -> None:
        state = self.state[parameter]
        average = state.setdefault("average", torch.zeros_like(parameter))
        average.lerp_(parameter.grad, 1 - momentum)
        ahead = torch.lerp(parameter.grad, average, momentum).flatten(1)
        size = 0.2 * math.sqrt(max(ahead.shape))
        parameter.add_(orthogonal(ahead).reshape(parameter.shape), alpha=-rate * size)


class Together:
    """Muon for the matrices inside a network and Adam for the rest, as one optimizer."""

    def __init__(self, model: nn.Module, lr: float, is_matrix: Callable[[str, nn.Parameter], bool]):
        matrices, rest = [], []
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                (matrices if is_matrix(name, parameter) else rest).append(parameter)
        self.parts = (Muon(matrices, lr), torch.optim.Adam(rest, lr=lr, betas=(0.9, 0.98), fused=True))
        self.parameters = matrices + rest

    def set_rate(self, rate: float) -> None:
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate

    def step(self, largest_norm: float = 1.0) -> float:
        """Clip the gradients to a norm together, step, and forget them; returns the norm before."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, largest_norm)
        for part in self.parts:
            part.step()
            part.zero_grad()
        return float(norm)

    def state_dict(self) -> list[dict]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)
