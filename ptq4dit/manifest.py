"""The manifest of a checkpoint: what made it, layer by layer, and a checksum of every file."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch

import ptq4dit
from ptq4dit.config import LayerConfig, QuantConfig, from_fields
from ptq4dit.whole_folder import MANIFEST

KIND = "ptq4dit-checkpoint"
FORMAT = f"{KIND}-3"
_REQUIRED = {
    *("format", "label", "method", "versions", "config", "calibration", "statistics", "model", "source"),
    *("frequencies", "dtype", "scheduler", "id2label", "layers", "columns", "aliases", "sha256"),
}


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the manifest of a folder whose other files are all there: ``content``, format, versions and checksums."""
    versions = {"ptq4dit": ptq4dit.__version__, "torch": torch.__version__, "diffusers": diffusers.__version__}
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    sums = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
    whole = {"format": FORMAT, "versions": versions} | dict(content) | {"sha256": sums}
    (folder / MANIFEST).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are those that were saved.

    Files that the manifest does not name, such as a hub's README, are not read and may be there.

    Raises:
        ValueError: if the folder is no checkpoint, or a file is missing or damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(
            f"Expected a checkpoint folder with {MANIFEST}, got {str(folder)!r}. Make one: save_quantized."
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Expected JSON in {str(path)!r}, got a damaged file: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise ValueError(f"Expected format {FORMAT!r} in {str(path)!r}, got {found!r}. Quantize again.")
    if set(manifest) != _REQUIRED:
        wrong = sorted(set(manifest) ^ _REQUIRED)
        raise ValueError(f"Expected exactly the fields of a manifest in {str(path)!r}, got {wrong} missing or unknown.")
    if unsigned := sorted(path for path in _loaded(folder) if path not in manifest["sha256"]):
        raise ValueError(
            f"Expected a checksum of every file of {str(folder)!r}, got none of {unsigned}. Copy it again."
        )
    for name, digest in manifest["sha256"].items():
        if not (folder / name).is_file():
            raise ValueError(f"Expected {name!r} in {str(folder)!r}, got no such file. Copy the whole folder again.")
        if _digest(folder / name) != digest:
            raise ValueError(
                f"Expected {name!r} as it was saved in {str(folder)!r}, got a damaged file. Copy it again."
            )
    return manifest


def layer_specs(layers: Iterable[str], config: QuantConfig) -> list[dict[str, Any]]:
    """``[{"spec": settings, "layers": names}]``: how each quantized layer is quantized, equal settings said once."""
    groups: list[dict[str, Any]] = []
    for name in layers:
        spec = dataclasses.asdict(config.layer(name))
        group = next((group for group in groups if group["spec"] == spec), None)
        if group is None:
            groups.append({"spec": spec, "layers": [name]})
        else:
            group["layers"].append(name)
    return groups


def stored_specs(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What `layer_specs` says, of a manifest; settings that did not exist when it was written have their defaults.

    Raises:
        ValueError: if a setting is unknown or refused.
    """
    return [
        {"spec": dataclasses.asdict(from_fields(LayerConfig, group["spec"])), "layers": group["layers"]}
        for group in manifest["layers"]
    ]


def _loaded(folder: Path) -> list[str]:
    """Files in the parts of a checkpoint, all of which may be read, whatever the manifest names."""
    parts = ("transformer", "vae", "scheduler")
    return [p.relative_to(folder).as_posix() for part in parts for p in (folder / part).rglob("*") if p.is_file()]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
