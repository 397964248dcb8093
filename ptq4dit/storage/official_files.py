"""Files that are taken for official checkpoints, by their names; without torch."""

from pathlib import Path

SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
"""Their endings."""


def is_official_name(source: str) -> bool:
    """Whether a source is named as an official checkpoint is, be it there or not."""
    return Path(source).suffix in SUFFIXES


def bare_name(source: str) -> str:
    """The name of a folder, file or repository, without the ending of an official checkpoint."""
    path = Path(source)
    return path.stem if path.suffix in SUFFIXES else path.name
