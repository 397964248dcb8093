"""The registry's methods as the app offers them; no torch."""

from __future__ import annotations

from app.services.request import PTQ4DIT, Variant
from app.services.shelf import DEMO
from app.services.stored_benchmark import Benchmark, read_benchmark
from app.state import brief

PLAIN = "ptq4dit-nearest"


def choices() -> list[tuple[str, str]]:
    """Title and key of every method; those that learn their rounding say so."""
    from ptq4dit.config.methods import method_names

    slow = " (learns its rounding, about a minute)"
    offered = [
        (title(name) + ("" if name in method_names(learns="nothing") else slow), name) for name in method_names()
    ]
    place = method_names().index(PTQ4DIT)
    return [*offered[:place], (title(PLAIN), PLAIN), *offered[place:]]


def title(key: str) -> str:
    """What a person calls a method; its key where no benchmark says."""
    about = getattr(_stored(), "methods", {}).get(PTQ4DIT if key == PLAIN else key)
    named = about.title if about else key
    return f"{named}, nearest rounding" if key == PLAIN and about else named


def variant(key: str, weight_bits: int, activation_bits: int) -> Variant:
    """The variant that a method's key stands for, as the benchmark runs it. Raises ValueError for an unknown one."""
    from ptq4dit.config.methods import method_names

    if not isinstance(key, str) or key not in (*method_names(), PLAIN):
        raise ValueError(f"method: expected one of {', '.join(method_names())} or {PLAIN}; got {brief(key)}")
    return Variant(
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        csb=True,
        ssc=True,
        method=PTQ4DIT if key == PLAIN else key,
        reconstruct=key not in (*method_names(learns="nothing"), PLAIN),
    )


def _stored() -> Benchmark | None:
    """The demo model's benchmark, for the methods' names, which are the same whatever they quantize."""
    try:
        return read_benchmark(DEMO / "results")
    except ValueError:
        return None
