"""Grids that numbers are rounded to: affine and logarithmic, packed bits, rotations before rounding."""
