"""Randomized Hadamard rotation of the last axis: spreads every channel over many others, and keeps all products."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_PALEY_PRIMES = {12: 11, 20: 19, 24: 23, 28: 13, 36: 17}
"""Order -> prime q of Paley's construction: order q + 1 where q = 3 mod 4, order 2 (q + 1) where q = 1 mod 4."""


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """``R = diag(signs) (I_blocks x H_a x H_b) / sqrt(a b)``, orthogonal, so that ``(x R)(W R)^T = x W^T``.

    Attributes:
        width: channels of what is rotated.
        seed: of the random signs.
    """

    width: int
    seed: int = 0

    def apply(self, x: Float[Tensor, "*rest channel"]) -> Float[Tensor, "*rest channel"]:
        """``x R``, for activations ``(..., d_in)`` and for a weight's rows ``(d_out, d_in)`` alike.

        Two small matrix products instead of one of the full width.
        """
        left, right = factors(self.width)
        signs = _signs(self.width, self.seed).to(x)
        a, b = _hadamard(left).to(x), _hadamard(right).to(x)
        blocks = (x * signs).reshape(*x.shape[:-1], -1, left, right)
        return ((a.T @ blocks @ b) / (left * right) ** 0.5).reshape(x.shape)


def hadamard(order: int) -> Float[Tensor, "n n"]:
    """A Hadamard matrix: entries 1 and -1, ``H H^T = n I``.

    Powers of two by Sylvester's doubling; 12, 20, 24, 28 and 36 by Paley's constructions.

    Raises:
        ValueError: for another order.
    """
    if order in _PALEY_PRIMES:
        return _paley(_PALEY_PRIMES[order])
    if order < 1 or order & (order - 1):
        raise ValueError(f"Expected a power of two or one of {sorted(_PALEY_PRIMES)}, got {order}.")
    result = torch.ones(1, 1, dtype=torch.float64)
    while len(result) < order:
        result = torch.cat([torch.cat([result, result], 1), torch.cat([result, -result], 1)])
    return result


@lru_cache(maxsize=256)
def factors(width: int) -> tuple[int, int]:
    """Orders ``(a, b)`` of the two Hadamard matrices; ``a b`` divides the width and is as large as it can be."""
    twos = width & -width
    best = (1, 1)
    for odd in (1, *_PALEY_PRIMES):
        power = width // odd & -(width // odd) if width % odd == 0 else 0
        if odd * power > best[0] * best[1]:
            best = (odd, power)
    if best[0] == 1:
        side = 1 << ((twos.bit_length() - 1) // 2)
        return side, twos // side
    return best


@lru_cache(maxsize=64)
def _hadamard(order: int) -> Tensor:
    return hadamard(order)


@lru_cache(maxsize=64)
def _signs(width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, (width,), generator=generator).double() * 2 - 1


def _paley(q: int) -> Tensor:
    """Order q + 1 (Paley I) or 2 (q + 1) (Paley II), from the quadratic residues modulo the prime q."""
    residues = {i * i % q for i in range(1, q)}
    character = np.array([0] + [1 if i in residues else -1 for i in range(1, q)], dtype=float)
    jacobsthal = np.array([[character[(i - j) % q] for j in range(q)] for i in range(q)])
    core = np.zeros((q + 1, q + 1))
    core[0, 1:], core[1:, 0], core[1:, 1:] = 1, 1 if q % 4 == 1 else -1, jacobsthal
    if q % 4 == 3:
        return torch.from_numpy(core + np.eye(q + 1))
    return torch.from_numpy(np.kron(core, [[1, 1], [1, -1]]) + np.kron(np.eye(q + 1), [[1, -1], [-1, -1]]))
