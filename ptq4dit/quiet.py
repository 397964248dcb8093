"""Other packages keep to themselves what is no business of whoever runs this one: log lines about parts not needed."""

import logging
import os

_TALKATIVE = ("accelerate", "diffusers", "nncf", "torch.utils._pytree", "torchao", "transformers")
"""Loggers that warn while they are imported, about libraries that are not there and names that will go."""
_VERBOSITY = ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY")


def quiet() -> None:
    """Have other packages log errors only, in this process; before they are imported. For programs, not libraries.

    Whoever set a package's own variable, such as ``DIFFUSERS_VERBOSITY``, gets what it says.
    """
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in _VERBOSITY:
        os.environ.setdefault(name, "error")
