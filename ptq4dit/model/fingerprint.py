"""A short identity of a transformer's weights, to refuse statistics that belong to another model."""

import hashlib
import json
from typing import Any

import torch
from torch import nn

from ptq4dit.model.families import generic
from ptq4dit.model.families.registry import family_of
from ptq4dit.model.frequencies import frequencies_of
from ptq4dit.model.layers import balanced_layers
from ptq4dit.model.streamed import parameters, weights
from ptq4dit.storage.provenance import same_model

_SAMPLED, _BYTES = 256, 16


def fingerprint(transformer: nn.Module) -> str:
    """Hash of config, frequencies, weight salience of every site and evenly spread values of all parameters; and a sum.

    Any channel-wise rescaling changes the hash, any single weight the sum. Half-precision files loaded as float32 or
    float64 give the same fingerprint.

    Args:
        transformer: a float transformer; one that is no diffusers model has no config to hash.

    Returns:
        32 hexadecimal digits, a hyphen, and 16 for the sum.
    """
    return f"{_hash(transformer)}-{_sum(transformer)}"


def is_fingerprint_of(stored: str, transformer: nn.Module) -> bool:
    """Whether a stored fingerprint is that of a transformer; former ones have no sum."""
    return same_model(stored, fingerprint(transformer))


@torch.no_grad()
def _hash(transformer: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=_BYTES)
    said = dict(getattr(transformer, "config", None) or {})
    config = {k: v for k, v in said.items() if not k.startswith("_")}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    if frequencies_of(transformer) != "diffusers":
        digest.update(frequencies_of(transformer).encode())
    for paths in _grouped(transformer):
        columns = [_columns(transformer.get_submodule(path)) for path in paths]
        digest.update(_bytes(torch.stack(columns).amax(dim=0)))
    for name, parameter in parameters(transformer, by_name=True):
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(_bytes(parameter.flatten()[:: max(1, parameter.numel() // _SAMPLED)]))
    return digest.hexdigest()


def _sum(transformer: nn.Module) -> str:
    """The bits of all parameters as integers, summed: whole numbers, so that no order of summing shows."""
    total = 0
    for _, parameter in parameters(transformer, by_name=True):
        bits = parameter.detach().float().contiguous().view(torch.int32)
        total = (total * 31 + int(bits.sum(dtype=torch.int64))) % 2**64
    return f"{total:016x}"


def _columns(linear: Any) -> torch.Tensor:
    """The largest magnitude in every column of a weight."""
    with weights(linear):
        largest: torch.Tensor = linear.weight.abs().amax(dim=0)
        return largest


def _grouped(transformer: nn.Module) -> list[tuple[str, ...]]:
    """Linears by site where a file names the sites; each alone where they are found by watching, which may vary."""
    if family_of(transformer) is not generic.FAMILY:
        return [site.paths for site in balanced_layers(transformer).values()]
    return [(path,) for path, module in transformer.named_modules() if isinstance(module, nn.Linear)]


def _bytes(values: torch.Tensor) -> bytes:
    return values.detach().float().cpu().contiguous().numpy().tobytes()
