"""The manifest of a checkpoint: what made it, layer by layer, and a checksum of every file."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import diffusers
import torch

from ptq4dit.config.record import QuantRecord, required_dict, required_list, required_text, short
from ptq4dit.model.folder_sizes import CONFIG
from ptq4dit.storage.folder import MANIFEST
from ptq4dit.storage.strict_json import read_strict_json
from ptq4dit.version import __version__

KIND = "ptq4dit-checkpoint"
FORMAT, FORMER_FORMAT, MODULE_FORMAT = f"{KIND}-4", f"{KIND}-3", f"{KIND}-module-1"
WEIGHTS = "diffusion_pytorch_model.safetensors"
"""As diffusers calls the weights of one model."""
_SHARED = {"format", "label", "method", "versions", "config", "calibration", "statistics", "model", "source"}
_FIELDS = {
    FORMAT: _SHARED | {"pipeline", "dtypes", "id2label", "options", "layers", "sha256"},
    MODULE_FORMAT: _SHARED | {"layers", "sha256"},
    FORMER_FORMAT: _SHARED
    | {"frequencies", "dtype", "scheduler", "id2label", "layers", "columns", "aliases", "sha256"},
}
_AT_TOP = {
    FORMAT: ("model_index.json",),
    MODULE_FORMAT: (CONFIG, WEIGHTS),
    FORMER_FORMAT: ("model_index.json",),
}
"""Files that are read beside the manifest; whatever else is there, such as a calibration or a hub's README, is not."""
_TEXTS = {"label", "method", "model", "source", "pipeline", "frequencies", "dtype", "scheduler"}


def made_by(record: QuantRecord, source: str) -> dict[str, Any]:
    """What a manifest of any kind says of how its model was made; ``source`` is what it was made from."""
    said = record.to_dict()
    return {
        "label": record.config.label,
        "method": record.config.method,
        "config": said["config"],
        "calibration": said["calibration"],
        "statistics": said["statistics"],
        "model": record.model,
        "source": source,
        "layers": said["settings"],
    }


def write_manifest(folder: Path, content: Mapping[str, Any], kind: str = FORMAT) -> None:
    """Write the manifest of a folder whose other files are all there: ``content``, format, versions and checksums."""
    versions = {"ptq4dit": __version__, "torch": torch.__version__, "diffusers": diffusers.__version__}
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    sums = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
    whole = {"format": kind, "versions": versions} | dict(content) | {"sha256": sums}
    (folder / MANIFEST).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, of this format or the former, whose files are those that were saved.

    Files that the manifest does not name, such as a hub's README, are not read and may be there.

    Raises:
        ValueError: if the folder is no checkpoint, a field is missing or of another type, or a file is missing or
            damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(
            f"Expected a checkpoint folder with {MANIFEST}, got {str(folder)!r}. Make one: save_quantized."
        )
    manifest = read_strict_json(path)
    found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
    if not isinstance(found, str) or found not in _FIELDS:
        raise ValueError(f"Expected format {FORMAT!r} in {str(path)!r}, got {short(found)}. Quantize again.")
    if set(manifest) != _FIELDS[found]:
        wrong = short(sorted(set(manifest) ^ _FIELDS[found]))
        raise ValueError(f"Expected exactly the fields of a manifest in {str(path)!r}, got {wrong} missing or unknown.")
    _require_types(manifest)
    _require_files(folder, manifest["sha256"], _AT_TOP[found])
    return manifest


def _require_types(manifest: Mapping[str, Any]) -> None:
    for name in _TEXTS & set(manifest):
        required_text(manifest, name)
    for name in ("versions", "config", "calibration", "statistics", "sha256"):
        required_dict(manifest, name)
    for name in {"id2label", "dtypes", "options", "columns", "aliases"} & set(manifest):
        required_dict(manifest, name)
    required_list(manifest, "layers")
    for key, label in manifest.get("id2label", {}).items():
        if not key.isdecimal() or not isinstance(label, str):
            raise ValueError(f"Expected id2label to have names by class number, got {short(key)}: {short(label)}.")
    for name, value in [*manifest.get("dtypes", {}).items(), *manifest.get("aliases", {}).items()]:
        if not isinstance(value, str):
            raise ValueError(f"Expected text for {short(name)} in the manifest, got {short(value)}.")


def _require_files(folder: Path, sums: Mapping[str, Any], at_top: tuple[str, ...]) -> None:
    for name, digest in sums.items():
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or "\0" in name:
            raise ValueError(f"Expected names of files inside {str(folder)!r}, got {short(name)}. It is not ours.")
        if not isinstance(digest, str):
            raise ValueError(f"Expected the checksum of {short(name)} as text, got {short(digest)}.")
    if unsigned := sorted(path for path in _loaded(folder, at_top) if path not in sums):
        raise ValueError(
            f"Expected a checksum of every file of {str(folder)!r}, got none of {short(unsigned)}. Copy it again."
        )
    for name, digest in sums.items():
        if not (folder / name).is_file():
            raise ValueError(f"Expected {name!r} in {str(folder)!r}, got no such file. Copy the whole folder again.")
        if _digest(folder / name) != digest:
            raise ValueError(
                f"Expected {name!r} as it was saved in {str(folder)!r}, got a damaged file. Copy it again."
            )


def _loaded(folder: Path, at_top: tuple[str, ...]) -> list[str]:
    """Files in the parts of a checkpoint, all of which may be read, whatever the manifest names."""
    inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    files = [path for part in inside for path in part.rglob("*") if path.is_file()]
    here = [folder / name for name in at_top if (folder / name).is_file()]
    return [path.relative_to(folder).as_posix() for path in [*files, *here]]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
