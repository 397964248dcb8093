"""What a comparison is asked to make: which picture, and by which variants of the model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from app.balancing import SWITCHES, TOKENS
from app.state import Selection, brief, one_of, switch

SAMPLERS = ("ddim", "ddpm", "dpm++")
FLOAT_BITS = 16
MOST_VARIANTS = 7
BACKENDS = ("auto", "integer", "simulated")
PTQ4DIT = "ptq4dit"
DEFAULT_BITS = ("W8A8", "W4A8")
PICTURE = ("class_id", "prompt", "seed", "steps", "guidance")  # what of a selection a picture is drawn by
_BITS = re.compile(r"W(\d{1,2})A(\d{1,2})(?: (none|csb\+ssc|csb))?(?: (token|tensor))?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How one contender is quantized; 16 bits leave weights or activations in float.

    `tokens` gives every token's input a scale of its own; `method` is a recipe of the registry, `reconstruct` whether
    its rounding is learned as the benchmark does; `backend` what runs it.
    """

    weight_bits: int = FLOAT_BITS
    activation_bits: int = FLOAT_BITS
    csb: bool = False
    ssc: bool = False
    tokens: bool = False
    method: str = PTQ4DIT
    reconstruct: bool = False
    backend: str = "simulated"

    @classmethod
    def parse(cls, bits: str, csb: bool, ssc: bool, backend: str = "simulated", tokens: bool = False) -> Variant:
        """The variant of bit-widths such as "W4A8", or of "W4A8 csb token", which sets the switches itself.

        backend: "simulated", "integer", or "auto" for integer where that backend takes the bits.
        Raises ValueError for anything else.
        """
        found = _BITS.fullmatch(bits.strip()) if isinstance(bits, str) else None
        if not found:
            raise ValueError(
                "bits: expected W<bits>A<bits>, each 2 to 8 or 16 for float, and after a space none, csb or csb+ssc, "
                "token or tensor, where it is to differ from the switches, e.g. W4A8 or 'W4A8 none token'; "
                f"got {brief(bits)}"
            )
        if found[3]:
            csb, ssc = SWITCHES[found[3].lower()]
        csb, ssc = switch("csb", csb), switch("ssc", ssc)
        tokens = found[4].lower() == "token" if found[4] else switch("tokens", tokens)
        weight, activation = int(found[1]), int(found[2])
        tokens = tokens and activation != FLOAT_BITS
        backend = run_by(backend, weight, activation, tokens)
        return cls(weight_bits=weight, activation_bits=activation, csb=csb, ssc=ssc, tokens=tokens, backend=backend)

    @property
    def is_float(self) -> bool:
        """Whether nothing is rounded."""
        return self.weight_bits == self.activation_bits == FLOAT_BITS

    @property
    def label(self) -> str:
        """ "FP32", or the bit-widths such as "W4A8"."""
        return "FP32" if self.is_float else f"W{self.weight_bits}A{self.activation_bits}"

    @property
    def balancing(self) -> str:
        """ "no balancing", "CSB" or "CSB+SSC"; another method's name; the scales of tokens; its reconstruction."""
        own = ("CSB+SSC" if self.ssc else "CSB") if self.csb else "no balancing"
        named = own if self.method == PTQ4DIT else self.method
        return named + TOKENS[self.tokens] + (", reconstructed" if self.reconstruct else "")

    @property
    def name(self) -> str:
        """The whole name, e.g. "W4A8, simulated, CSB+SSC"."""
        return "FP32, full precision" if self.is_float else f"{self.label}, {self.backend}, {self.balancing}"


FULL_PRECISION = Variant()


def run_by(backend: str, weight_bits: int, activation_bits: int, tokens: bool = False) -> str:
    """ "integer" or "simulated", as asked; "auto" takes integers where they are for these bits.

    With a scale for every token weights of 2 to 8 bits run on integers, each in the type that holds it.

    Raises ValueError for another backend, and for integers at bits that they are not made for.
    """
    backend = one_of("backend", backend, BACKENDS)
    possible = (tokens or weight_bits in (4, 8)) and activation_bits == 8 and find_spec("openvino") is not None
    possible = possible and weight_bits != FLOAT_BITS
    if backend == "integer" and not possible and (weight_bits, activation_bits) != (FLOAT_BITS, FLOAT_BITS):
        raise ValueError(
            "backend: integer runs 8- or 4-bit weights with 8-bit activations, and needs openvino; "
            f"got W{weight_bits}A{activation_bits}. Choose such bits, or simulated"
        )
    return "integer" if possible and backend != "simulated" else "simulated"


def parse_variants(
    bits: Sequence[str], csb: bool, ssc: bool, backend: str = "simulated", tokens: bool = False
) -> tuple[Variant, ...]:
    """The variants of bit-widths such as ["W8A8", "W4A8"], each once; ValueError where there is none."""
    if isinstance(bits, str) or not isinstance(bits, Sequence) or len(bits) > MOST_VARIANTS:
        raise ValueError(f'bits: expected a list of at most {MOST_VARIANTS} such as ["W4A8"]; got {brief(bits)}')
    if not bits:
        raise ValueError("bits: expected at least one variant such as W4A8; got none. Choose one to compare with")
    variants = tuple(dict.fromkeys(Variant.parse(name, csb, ssc, backend, tokens) for name in bits))
    if any(variant.is_float for variant in variants):
        raise ValueError(
            "bits: expected weights or activations of 2 to 8 bits; got float, which the others are held to"
        )
    return variants


def selected_variants(
    selection: Selection, bits: Sequence[str] = DEFAULT_BITS, backend: str = "auto"
) -> tuple[Variant, ...]:
    """The variants of bit-widths with the switches as selected. Raises ValueError as `parse_variants` does."""
    return parse_variants(bits, selection.csb, selection.ssc, backend, selection.tokens)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One picture of a class or prompt from a seed, by a model and by each of its `variants`, from the same noise.

    Raises ValueError for a value out of range; the message says what was expected, what came, what to do.
    """

    model: str
    class_id: int = 0
    prompt: str = ""
    seed: int = 0
    steps: int = 25
    guidance: float = 4.0
    sampler: str = "ddim"
    strength: int = 1
    variants: tuple[Variant, ...] = ()

    @classmethod
    def of(cls, selection: Selection, variants: tuple[Variant, ...] = (), **others: Any) -> Request:
        """The picture that is selected, by these variants. Raises ValueError where it cannot be generated."""
        fields = {name: getattr(selection, name) for name in (*PICTURE, "model", "strength")}
        return cls(**(fields | others), variants=variants)

    def __post_init__(self) -> None:
        """Refuse what cannot be generated."""
        if len(self.variants) > MOST_VARIANTS:
            raise ValueError(f"variants: expected at most {MOST_VARIANTS}; got {len(self.variants)}")
        object.__setattr__(self, "sampler", one_of("sampler", self.sampler, SAMPLERS))
        for variant in self.contenders:
            selection = self._selection(variant)
        for name in (*PICTURE, "strength"):
            object.__setattr__(self, name, getattr(selection, name))

    @property
    def contenders(self) -> tuple[Variant, ...]:
        """Full precision, then the variants."""
        return (FULL_PRECISION, *self.variants)

    def _selection(self, variant: Variant) -> Selection:
        """What the app would have chosen to see one variant; making it checks every value."""
        return Selection(
            model=self.model,
            class_id=self.class_id,
            prompt=self.prompt,
            seed=self.seed,
            steps=self.steps,
            guidance=self.guidance,
            strength=self.strength,
            weight_bits=variant.weight_bits,
            activation_bits=variant.activation_bits,
            csb=variant.csb,
            ssc=variant.ssc,
            tokens=variant.tokens,
        )
