"""The three ways of balancing that are compared everywhere."""

VARIANTS: dict[str, tuple[bool, bool]] = {"none": (False, False), "csb": (True, False), "csb+ssc": (True, True)}
"""Variant -> (csb, ssc)."""
