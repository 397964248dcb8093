"""Where what is made of a model is kept: beside the model, or in the cache where nothing can be written there."""

import hashlib
import os
import re
from pathlib import Path

CALIBRATION = "calibration.safetensors"
RESULTS = "results"
SENSITIVITY = f"{RESULTS}/sensitivity.json"


def cache_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """The folder that was given, or that ``PTQ4DIT_CACHE`` names, or the user's cache folder."""
    chosen = given or os.environ.get("PTQ4DIT_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ptq4dit"


def homes(source: str | os.PathLike[str], cache: str | os.PathLike[str] | None = None) -> tuple[Path, ...]:
    """Folders in which calibration and results of a model may be, the model's own first; they may not exist.

    Args:
        source: a model folder, a file, or a hub id.
        cache: see `cache_folder`.
    """
    path = Path(source)
    kept = cache_folder(cache) / "models" / _kept_name(path, os.fspath(source))
    return (path, kept) if path.is_dir() else (kept,)


def home(source: str | os.PathLike[str], cache: str | os.PathLike[str] | None = None) -> Path:
    """The folder to write calibration and results of a model to: its own if that can be written, else the cache's."""
    own, *others = homes(source, cache)
    return others[0] if others and not os.access(own, os.W_OK) else own


def kept(
    source: str | os.PathLike[str], name: str | os.PathLike[str], cache: str | os.PathLike[str] | None = None
) -> Path | None:
    """The file ``name`` (``"calibration.safetensors"``, ``"results/benchmark.json"``) of a model; None without one."""
    return next((file for folder in homes(source, cache) if (file := folder / name).is_file()), None)


def _kept_name(path: Path, source: str) -> str:
    """A folder's name for a model: readable, and another one for each path."""
    named = re.sub(r"[^\w.-]+", "--", source if not path.exists() else path.resolve().name).strip("-.") or "model"
    if not path.exists():
        return named[:100]
    return f"{named[:80]}-{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]}"
