"""How the integer backend is run."""

import os
from dataclasses import dataclass
from typing import Literal, get_args

from ptq4dit.config.base import Config, is_integer, require_integer

FloatPrecision = Literal["auto", "f32", "mixed", "bf16"]
_MANY_TOKENS = 128
"""Below, attention is so small that bf16 gains nothing (measured with 64 and 256 tokens)."""


@dataclass(frozen=True, kw_only=True)
class IntegerOptions(Config):
    """How the integer backend runs; the integers that it computes with are the model's own.

    Attributes:
        threads: CPU threads; None for all cores.
        precision: of what is not an integer product. ``"f32"``; ``"bf16"``; ``"mixed"``: both products of the
            attention in bf16, all else in f32; ``"auto"``: mixed where the CPU multiplies bf16, pictures have 128
            tokens or more and all inputs 8 bits (beside which bf16 costs no accuracy; of fewer bits it flips too
            large steps), else f32. ``runtime`` says which it was. Of other transformers than the DiT ``"auto"`` is f32,
            and ``"mixed"`` is refused.
        batch: rows of every call, for which the graph is then compiled: faster for a small model that is always called
            with as many (``assets/demo/results/speed_fixed_batch.json``); None for any number. Of the CPU only.
        cache: folder of compiled models; None for ``PTQ4DIT_CACHE``, else the user's cache folder.
        cache_bytes: the least recently used compiled models go once the folder is larger.
    """

    threads: int | None = None
    precision: FloatPrecision = "auto"
    batch: int | None = None
    cache: str | os.PathLike[str] | None = None
    cache_bytes: int = 4 * 2**30

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threads is not None and not is_integer(self.threads, at_least=1):
            raise ValueError(f"Expected threads to be at least 1, or None for all cores, got {self.threads!r}.")
        if self.batch is not None and not is_integer(self.batch, at_least=1):
            raise ValueError(f"Expected batch to be at least 1, or None for any number of rows, got {self.batch!r}.")
        if self.precision not in get_args(FloatPrecision):
            raise ValueError(f"Expected precision to be one of {get_args(FloatPrecision)}, got {self.precision!r}.")
        require_integer("cache_bytes", self.cache_bytes, at_least=0)


def chosen_precision(
    asked: FloatPrecision, tokens: int, activation_bits: int, capabilities: list[str]
) -> Literal["f32", "mixed", "bf16"]:
    """What ``"auto"`` stands for here; anything else stays as it is.

    Args:
        asked: `IntegerOptions.precision`.
        tokens: of one picture.
        activation_bits: the fewest of any block linear.
        capabilities: types in which OpenVINO says that this CPU multiplies, such as ``"BF16"``.

    Raises:
        ValueError: if bf16 is asked for and this CPU has no such products.
    """
    able = "BF16" in capabilities
    if asked == "auto":
        return "mixed" if able and tokens >= _MANY_TOKENS and activation_bits == 8 else "f32"
    if asked != "f32" and not able:
        raise ValueError(
            f'Expected a CPU with bf16 products for precision="{asked}", got one that OpenVINO says has '
            f'{", ".join(sorted(capabilities))}. Choose precision="f32" or "auto".'
        )
    return asked
