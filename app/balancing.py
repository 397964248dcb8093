"""The ways of balancing and of scaling that the app shows, in one table: their keys, switches and names."""

from __future__ import annotations

from typing import Literal

Way = Literal["none", "csb", "csb+ssc"]
WAYS: tuple[Way, ...] = ("none", "csb", "csb+ssc")
SWITCHES: dict[str, tuple[bool, bool]] = {"none": (False, False), "csb": (True, False), "csb+ssc": (True, True)}
"""Key -> (CSB, SSC)."""
NAMES: dict[str, str] = {"none": "no balancing", "csb": "CSB", "csb+ssc": "CSB + SSC"}
TOKENS: dict[bool, str] = {False: "", True: ", a scale for every token"}
"""What the third switch adds to a name: whether every token's input is rounded on a grid of its own."""


def way(csb: bool, ssc: bool) -> Way:
    """The key of the switches; SSC without CSB has nothing to act on and counts as off."""
    return ("csb+ssc" if ssc else "csb") if csb else "none"
