"""Build the modules of a quantized transformer again, on an empty one, from what its files say; no family is needed."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ptq4dit.checkpoint.file_facts import Files
from ptq4dit.checkpoint.packed_state import packed_names, packed_shape
from ptq4dit.config.quantization import FLOAT_BITS
from ptq4dit.config.record import QuantRecord, short
from ptq4dit.model.families.absorber import InputFactor
from ptq4dit.model.families.family import Site
from ptq4dit.model.families.registry import family_of
from ptq4dit.model.frequencies import set_frequencies
from ptq4dit.quantized.attention import AttentionRounding
from ptq4dit.quantized.attention_ranges import rounds_attention
from ptq4dit.quantized.install import install, make_clock, unfilled
from ptq4dit.quantized.linear import QuantizedLinear

_BOUNDARIES = "ptq4dit_clock.boundaries"


def rebuild(transformer: Any, record: QuantRecord, files: Files, dtype: torch.dtype | None = None) -> None:
    """Replace the layers of an empty float transformer by unfilled quantized ones, in place, all types as saved.

    Args:
        transformer: a model on the meta device, as diffusers makes it before it loads weights.
        record: what was quantized and how.
        files: what its files hold.
        dtype: floating type of all that is not quantized; None for that it was saved with. Scales stay as wide as
            they are.

    Raises:
        ValueError: if the files do not hold exactly the tensors of this model, or the record does not fit it.
    """
    facts = files.facts
    wanted = dtype or facts.dtype
    _cast(transformer, {name: wanted for name, _ in transformer.named_parameters(remove_duplicate=False)})
    _install(transformer, record, files)
    _require_exactly(transformer, files, packed_names(record))
    unsaved = _unsaved(transformer)
    _cast(transformer, {name: facts.buffers.get(name, wanted) for name in unsaved if _floats(transformer, name)})
    _cast(transformer, dict(_stored_types(transformer, files, wanted)))
    for linear in quantized_linears(transformer).values():
        if linear.config.weight_bits != FLOAT_BITS:
            linear.weight = torch.empty(0, dtype=linear.weight.dtype, device="cpu")  # derived once it is filled
    if facts.frequencies != "diffusers":
        set_frequencies(transformer, facts.frequencies)  # type: ignore[arg-type]


def complete(transformer: Any, record: QuantRecord, *, lean: bool = False) -> None:
    """Check what was filled in, derive what is not saved, and note what made the model.

    Args:
        transformer: filled.
        record: what made it.
        lean: leave out the float weights that integers stand for.

    Raises:
        ValueError: if a scale is no positive number, an integer beyond its bits, or a tensor not finite.
    """
    for name, tensor in _floats_of(transformer):
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"Expected finite values in {name!r}, got nan or infinity. The file is damaged.")
    for path, linear in quantized_linears(transformer).items():
        _require_sound(path, linear)
        if not lean and (linear.config.weight_bits == FLOAT_BITS or linear.weight_q.device.type != "meta"):
            linear.restore()
    for name, buffer in transformer.named_buffers():
        if buffer.is_floating_point() and ("_scale" in name.rsplit(".", 1)[-1]) and bool((buffer <= 0).any()):
            raise ValueError(f"Expected positive scales in {name!r}, got others. The file is damaged.")
    transformer.ptq4dit_record = record


def quantized_linears(transformer: nn.Module) -> dict[str, QuantizedLinear]:
    """Path -> quantized layer."""
    return {path: module for path, module in transformer.named_modules() if isinstance(module, QuantizedLinear)}


def _install(transformer: Any, record: QuantRecord, files: Files) -> None:
    sites = {
        name: Site(name=name, role="", paths=paths, absorber=InputFactor(why="it is quantized"), block=None)
        for name, paths in record.layers.items()
    }
    for path in (path for paths in record.layers.values() for path in paths):
        try:
            module = transformer.get_submodule(path)
        except AttributeError:
            module = None
        if not isinstance(module, nn.Linear | nn.Conv2d):
            raise ValueError(f"Expected a linear layer {short(path)} in a {type(transformer).__name__}, got none.")
    attentions = _attentions(transformer, record)
    groups = record.config.timestep_groups
    if record.config.activation_granularity == "per_timestep_group" and files.shapes.get(_BOUNDARIES) != (groups - 1,):
        raise ValueError(f"Expected boundaries of {groups} timestep groups, got {files.shapes.get(_BOUNDARIES)}.")
    with torch.device("meta"):
        clock = make_clock(record.config)
        build = lambda _, linear, layer: unfilled(linear, layer, clock)  # noqa: E731
        install(transformer, sites, record.settings, record.config, build, clock, attentions=attentions)


def _attentions(transformer: nn.Module, record: QuantRecord) -> list[str]:
    """Paths of the attentions that are rounded."""
    if not rounds_attention(record.config):
        return []
    family = family_of(transformer)
    if family.name == "dit":
        return [f"{block}.attn1" for block in family.blocks(transformer)]
    modules = {path for path, _ in transformer.named_modules()}
    if not record.attentions or (wrong := sorted(set(record.attentions) - modules)):
        said = short(wrong[0]) if record.attentions else "none"
        raise ValueError(f"Expected the attentions of a {type(transformer).__name__}, got {said}. Quantize again.")
    return list(record.attentions)


def _require_exactly(transformer: nn.Module, files: Files, packed: set[str]) -> None:
    state, held = transformer.state_dict(), {*files.types, *files.facts.aliases}
    if wrong := sorted(set(state) ^ held):
        raise ValueError(
            f"Expected exactly the tensors of this {type(transformer).__name__}, got {len(wrong)} missing or unknown, "
            f"such as {wrong[0]!r}. Quantize again."
        )
    for name, tensor in state.items():
        stored = files.facts.aliases.get(name, name)
        expected, found = packed_shape(name, tensor.shape, packed), files.shapes[stored]
        if expected != found:
            raise ValueError(f"Expected {name!r} of shape {expected}, got {found}. Quantize again.")
        if (name in packed) != (stored in packed) or not _fits(name, tensor.dtype, files.types[stored]):
            raise ValueError(f"Expected {name!r} to be stored as {tensor.dtype}, got {files.types[stored]}.")


def _fits(name: str, dtype: torch.dtype, stored: torch.dtype) -> bool:
    if dtype.is_floating_point:
        return stored.is_floating_point
    return stored == dtype or (stored == torch.uint8 and name.endswith("zero_point"))


def _stored_types(transformer: nn.Module, files: Files, wanted: torch.dtype) -> Iterator[tuple[str, torch.dtype]]:
    """The type of every tensor that is saved: as in the files, but for another wanted type where it is the model's."""
    rounding = QuantizedLinear | AttentionRounding
    inside = tuple(f"{path}." for path, module in transformer.named_modules() if isinstance(module, rounding))
    for name, tensor in transformer.state_dict().items():
        stored = files.types[files.facts.aliases.get(name, name)]
        if not tensor.is_floating_point():
            continue
        if wanted == files.facts.dtype:
            yield name, stored
        elif not name.startswith(inside) and name != _BOUNDARIES and stored == files.facts.dtype:
            yield name, wanted


def _unsaved(transformer: nn.Module) -> list[str]:
    saved = set(transformer.state_dict())
    return [name for name, _ in transformer.named_buffers(remove_duplicate=False) if name not in saved]


def _floats(transformer: nn.Module, name: str) -> bool:
    return transformer.get_buffer(name).is_floating_point()


def _cast(transformer: nn.Module, types: Mapping[str, torch.dtype]) -> None:
    """Give parameters and buffers these types, in place."""
    for name, dtype in types.items():
        path, _, own = name.rpartition(".")
        module = transformer.get_submodule(path)
        if (parameter := module._parameters.get(own)) is not None:
            module._parameters[own] = nn.Parameter(parameter.to(dtype), requires_grad=parameter.requires_grad)
        elif (buffer := module._buffers.get(own)) is not None:
            module._buffers[own] = buffer.to(dtype)


def _floats_of(transformer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What was read into a float tensor."""
    for name, tensor in (*transformer.named_parameters(), *transformer.named_buffers()):
        if tensor.device.type != "meta" and tensor.is_floating_point():
            yield name, tensor


def _require_sound(path: str, linear: QuantizedLinear) -> None:
    def filled(name: str) -> Tensor | None:
        tensor = getattr(linear, name, None)
        return None if tensor is None or tensor.device.type == "meta" else tensor

    integers, factor = filled("weight_q"), filled("input_factor")
    largest = 2**linear.config.weight_bits - 1
    if integers is not None and integers.numel() and linear.config.weight_bits not in (4, 8):  # they cannot be larger
        found = int(linear.integers().max())
        if found > largest:
            raise ValueError(f"Expected integers up to {largest} in {path!r}, got {found}. It is damaged.")
    if factor is not None and bool((factor <= 0).any()):
        raise ValueError(f"Expected positive input factors in {path!r}, got others. The file is damaged.")
