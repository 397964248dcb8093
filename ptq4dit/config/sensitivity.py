"""How much each site's rounding shows, and the bits that a budget of bytes is best spent on."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptq4dit.storage.json_file import read_json, write_json

_FORMAT = "ptq4dit-sensitivity-1"
_MOST = 20_000
"""Amounts of bytes that are told apart; models whose blocks are alike have a few hundred."""


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Errors of a model's prediction with one site rounded and all else in float, for each number of weight bits.

    Attributes:
        model: fingerprint of the float transformer.
        samples: how many calls of it the errors are over.
        errors: site -> bits -> ``||e_q - e||^2 / ||e||^2`` of the (guided) prediction ``e``.
        bytes: site -> bits -> what is stored of it.
        fixed_bytes: what is stored besides.
        settings: how the site was rounded beside its weight bits: ``activation_bits``, ``csb``, ``ssc``; and
            ``strength``, the setting of the salience dial that the model is of.
        made: provenance, see `ptq4dit.storage.provenance.made_by`; empty where nobody said.
    """

    model: str
    samples: int
    errors: Mapping[str, Mapping[int, float]]
    bytes: Mapping[str, Mapping[int, int]]
    fixed_bytes: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.errors or set(self.errors) != set(self.bytes):
            raise ValueError("Expected errors and bytes of the same sites, at least one, got others. Measure again.")
        for site, errors in self.errors.items():
            if not errors or set(errors) != set(self.bytes[site]):
                raise ValueError(f"Expected errors and bytes of {site!r} for the same bits, got others. Measure again.")
            values = (*errors.values(), *self.bytes[site].values())
            if not all(0 <= value < float("inf") for value in values):
                raise ValueError(f"Expected finite errors and bytes of {site!r}, none below 0, got {values}.")

    def chosen_bits(self, budget: int) -> dict[str, int]:
        """The bits of every site that make the least error together without storing more bytes than the budget.

        Roundings of different sites are independent, so their squared errors add up:
        ``min sum_s error(s, b_s)`` under ``fixed_bytes + sum_s bytes(s, b_s) <= budget``. Exact, by a programme over
        the amounts of bytes that sites may have taken together; coarser beyond 20,000 different amounts.

        Raises:
            ValueError: if even the fewest bits take more.
        """
        least = [min(sizes.values()) for sizes in self.bytes.values()]
        smallest = self.fixed_bytes + sum(least)
        if budget < smallest:
            raise ValueError(
                f"Expected a budget of at least {smallest} bytes, which the model has with the fewest bits that were "
                f"measured, got {budget}."
            )
        room = budget - smallest
        front: list[_State] = [(0, 0.0, None)]
        for (site, errors), floor in zip(self.errors.items(), least, strict=True):
            options = [(self.bytes[site][bits] - floor, error, bits) for bits, error in errors.items()]
            front = _undominated(
                [
                    (used + more, total + error, (before, bits))
                    for used, total, before in front
                    for more, error, bits in options
                    if used + more <= room
                ],
                room,
            )
        return dict(zip(self.errors, _bits_of(front[-1]), strict=True))

    def total(self, bits: Mapping[str, int]) -> tuple[int, float]:
        """Bytes and error of a choice of bits for every site."""
        size = self.fixed_bytes + sum(self.bytes[site][own] for site, own in bits.items())
        return size, sum(self.errors[site][own] for site, own in bits.items())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one JSON file, atomically."""
        write_json(Path(path), {"format": _FORMAT} | dataclasses.asdict(self))

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Sensitivity":
        """Read what `save` wrote.

        Raises:
            ValueError: if the file is missing or is something else.
        """
        try:
            content = read_json(Path(path))
            if content.pop("format", None) != _FORMAT:
                raise KeyError("format")
            tables: dict[str, Any] = {name: _by_bits(content.pop(name)) for name in ("errors", "bytes")}
            return Sensitivity(**content, **tables)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"Expected a sensitivity in {str(path)!r}, got none or a damaged one ({error}). Measure it again."
            ) from error


_State = tuple[int, float, Any]
"""Bytes taken, error, and how: (the choices before, bits), None at the start."""


def _undominated(states: list[_State], room: int) -> list[_State]:
    """Those that no other beats in both bytes and error, by rising bytes; one for each step where there are many."""
    kept: list[_State] = []
    for state in sorted(states, key=lambda state: state[:2]):
        if not kept or state[1] < kept[-1][1]:
            kept.append(state)
    if len(kept) <= _MOST:
        return kept
    return list({state[0] * _MOST // (room + 1): state for state in kept}.values())  # the last of a step errs least


def _bits_of(state: _State) -> list[int]:
    chosen, how = [], state[2]
    while how is not None:
        how, bits = how
        chosen.append(bits)
    return chosen[::-1]


def _by_bits(table: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[int, Any]]:
    return {site: {int(bits): value for bits, value in row.items()} for site, row in table.items()}
