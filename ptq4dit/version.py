"""The package's version, in a file of its own so that low rooms can read it."""

__version__ = "0.1.0"
