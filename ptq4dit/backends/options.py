"""How the integer backend is run."""

import os
from dataclasses import dataclass
from typing import Literal

FloatPrecision = Literal["f32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class IntegerOptions:
    """How the integer backend runs; the integers that it computes with are the model's own.

    Attributes:
        threads: CPU threads; None for all cores.
        precision: ``"f32"`` or ``"bf16"`` for what is not an integer product: attention, norms, GELU.
        cache: folder of compiled models; None for ``PTQ4DIT_CACHE``, else the user's cache folder.
        cache_bytes: the least recently used compiled models go once the folder is larger.
    """

    threads: int | None = None
    precision: FloatPrecision = "f32"
    cache: str | os.PathLike[str] | None = None
    cache_bytes: int = 4 * 2**30

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"Expected threads to be at least 1, or None for all cores, got {self.threads}.")
        if self.precision not in ("f32", "bf16"):
            raise ValueError(f'Expected precision to be "f32" or "bf16", got {self.precision!r}.')
        if self.cache_bytes < 0:
            raise ValueError(f"Expected cache_bytes to be at least 0, got {self.cache_bytes}.")
