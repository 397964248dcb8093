"""The registry's methods as the app offers them; no torch."""

from __future__ import annotations

from app.services.request import PTQ4DIT, Variant
from app.services.stored_benchmark import Benchmark, load_benchmark
from app.state import brief

PLAIN = "ptq4dit-nearest"


def choices() -> list[tuple[str, str]]:
    """Title and key of every method; those that learn their rounding say so."""
    from ptq4dit.benchmark.config import RECONSTRUCTED
    from ptq4dit.config import METHOD_NAMES

    slow = " (learns its rounding, about a minute)"
    offered = [(title(name) + (slow if name in RECONSTRUCTED else ""), name) for name in METHOD_NAMES]
    return [*offered[: METHOD_NAMES.index(PTQ4DIT)], (title(PLAIN), PLAIN), *offered[METHOD_NAMES.index(PTQ4DIT) :]]


def title(key: str) -> str:
    """What a person calls a method; its key where no benchmark says."""
    about = getattr(_stored(), "methods", {}).get(PTQ4DIT if key == PLAIN else key)
    named = about.title if about else key
    return f"{named}, nearest rounding" if key == PLAIN and about else named


def variant(key: str, weight_bits: int, activation_bits: int) -> Variant:
    """The variant that a method's key stands for, as the benchmark runs it. Raises ValueError for an unknown one."""
    from ptq4dit.benchmark.config import RECONSTRUCTED
    from ptq4dit.config import METHOD_NAMES

    if not isinstance(key, str) or key not in (*METHOD_NAMES, PLAIN):
        raise ValueError(f"method: expected one of {', '.join(METHOD_NAMES)} or {PLAIN}; got {brief(key)}")
    return Variant(
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        csb=True,
        ssc=True,
        method=PTQ4DIT if key == PLAIN else key,
        reconstruct=key in RECONSTRUCTED,
    )


def _stored() -> Benchmark | None:
    try:
        return load_benchmark()
    except ValueError:
        return None
