"""Files of calibrations and trajectories, read as a stranger's: every field is there and fits the others."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.record import made, required_dict, required_text, short
from ptq4dit.storage.strict_json import strict_json

ALIKE = ("activation_min", "activation_max", "weight_salience", "samples")
"""Kinds of statistics that every layer has."""


class StoredFile:
    """Text and tensors of one file, and what it is for messages."""

    def __init__(self, what: str, path: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        self.what, self.path, self.tensors, self.metadata = what, path, tensors, metadata

    def require(self, true: bool, expected: str, got: object = "others") -> None:
        """Refuse the file.

        Raises:
            ValueError: unless ``true``.
        """
        if not true:
            raise ValueError(f"Expected {expected} in the {self.what} {self.path!r}, got {got}. Make it again.")

    def text(self, name: str) -> str:
        """A text field."""
        return required_text(self.metadata, name)

    def json(self, name: str) -> dict[str, Any]:
        """A field that holds an object as JSON."""
        return required_dict({name: strict_json(self.text(name), f"{name} of the {self.what} {self.path!r}")}, name)

    def config(self) -> CalibrationConfig:
        """The config that made it."""
        found: CalibrationConfig = made(CalibrationConfig, self.json("config"), "config")
        return found

    def require_tensors(self, expected: set[str], what: str = "its tensors") -> None:
        """Refuse missing and unknown tensors, and values that are not finite."""
        wrong = sorted(set(self.tensors) ^ expected)
        self.require(not wrong, what, f"{short(wrong)} missing or unknown")
        for name, tensor in self.tensors.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"Expected finite statistics in {self.path}, got others in {name}. Calibrate again.")

    def require_shape(self, name: str, shape: Sequence[int | None]) -> tuple[int, ...]:
        """Refuse a tensor of another shape; None stands for any positive length. Returns its shape."""
        found = tuple(self.tensors[name].shape)
        fits = len(found) == len(shape) and all(
            size == wanted if wanted is not None else size > 0 for size, wanted in zip(found, shape, strict=True)
        )
        words = " x ".join("any" if size is None else str(size) for size in shape) or "of one number"
        self.require(fits, f"{name!r} of shape {words}", found)
        return found

    def require_type(self, name: str, *, floating: bool) -> None:
        """Refuse a tensor that is no float, or no integer."""
        dtype = self.tensors[name].dtype
        whole = not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)
        fits = dtype.is_floating_point if floating else whole
        self.require(fits, f"{name!r} of {'floats' if floating else 'integers'}", dtype)


def stored_names(file: StoredFile, kinds: tuple[str, ...]) -> dict[str, list[str]]:
    """Names of layers and sites by kind of statistics; the same layers where every layer has them."""
    names = file.json("names")
    file.require(set(names) == set(kinds), f"the names {sorted(kinds)}")
    for kind, found in names.items():
        listed = isinstance(found, list) and all(isinstance(name, str) for name in found)
        file.require(listed and len(set(found)) == len(found), f"{kind} with every name once")
    first = names[ALIKE[0]]
    file.require(bool(first) and all(names[kind] == first for kind in ALIKE), "the same layers everywhere")
    salience = names["sample_salience"]
    file.require(salience in ([], first) and names["sample_weight"] == salience, "sample salience of all layers")
    file.require(names["extra_min"] == names["extra_max"], "both ends of every range")
    return names


def stored_paths(file: StoredFile, layers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Layer -> its linears; nothing where a file of an earlier version does not say."""
    if "paths" not in file.metadata:
        return {}
    found = file.json("paths")
    good = all(isinstance(paths, list) and paths and all(isinstance(p, str) for p in paths) for paths in found.values())
    file.require(good and list(found) == list(layers), "the paths of its layers")
    return {name: tuple(paths) for name, paths in found.items()}


def require_statistics(file: StoredFile, names: Mapping[str, list[str]], keys: Mapping[str, str]) -> None:
    """Refuse statistics whose shapes, types or ranges do not fit each other.

    Args:
        file: with all the tensors that it should have.
        names: what `stored_names` gave.
        keys: layer -> name of the tensor with the priorities of its rows.

    Raises:
        ValueError: naming the first that does not fit.
    """
    (count,) = file.require_shape("timesteps", (None,))
    for name in names["samples"]:
        rows, width = file.require_shape(f"samples/{name}", (count, None, None))[1:]
        file.require_shape(keys[name], (count, rows))
        for kind, shape in (("activation_min", (count, width)), ("weight_salience", (width,))):
            file.require_shape(f"{kind}/{name}", shape)
        _require_range(file, "activation", name, (count, width))
        for kind in ("samples", "weight_salience"):
            file.require_type(f"{kind}/{name}", floating=True)
        file.require(not bool((file.tensors[f"weight_salience/{name}"] < 0).any()), "weight salience of at least 0")
        if name in names["sample_salience"]:
            file.require_shape(f"sample_salience/{name}", (width,))
            file.require_shape(f"sample_weight/{name}", ())
    for name in names["extra_min"]:
        _require_range(file, "extra", name, (count, None))


def _require_range(file: StoredFile, kind: str, name: str, shape: Sequence[int | None]) -> None:
    low, high = f"{kind}_min/{name}", f"{kind}_max/{name}"
    file.require_shape(high, file.require_shape(low, shape))
    for end in (low, high):
        file.require_type(end, floating=True)
    file.require(not bool((file.tensors[low] > file.tensors[high]).any()), f"ranges of {name} with ends in order")
