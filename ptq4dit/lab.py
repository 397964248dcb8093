"""`ptq4dit.lab`: the public name of the salience dial."""

from ptq4dit.salience_dial import amplification_factors, amplify_salience

__all__ = ["amplification_factors", "amplify_salience"]
