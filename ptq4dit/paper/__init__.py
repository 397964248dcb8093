"""The ideas of PTQ4DiT, one file each: pure functions of tensors (and, in `reparam`, of a transformer's weights)."""

from ptq4dit.paper import csb, reparam, salience, ssc

__all__ = ["csb", "reparam", "salience", "ssc"]
