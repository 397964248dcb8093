"""Integer execution on CUDA: int8 matrix products by ``torch._int_mm``, exact zero points, a float epilogue.

Quantized linears of any transformer are replaced in a copy (`int8_linear`); attention, norms and all else stay in the
twin's type.
"""

import copy
import dataclasses
import functools
from typing import Any

import torch
from torch import nn

from ptq4dit.backends.dit_layers import is_published_dit
from ptq4dit.backends.int8_linear import Int8GroupedLinear, Int8Linear, Int8PatchEmbed
from ptq4dit.backends.integer_linear import integer_linear_of, refusal
from ptq4dit.backends.options import IntegerOptions
from ptq4dit.backends.token_linear import finds_scales, token_linear_of
from ptq4dit.backends.transformer import IntegerDit, IntegerTransformer, as_integer
from ptq4dit.model.forward import predict
from ptq4dit.quantized.attention import AttentionRounding
from ptq4dit.quantized.linear import QuantizedLinear, QuantizedPatchEmbed
from ptq4dit.quantized.timestep_groups import TimestepClock


def build(twin: Any, options: IntegerOptions | None = None) -> IntegerTransformer:
    """The model with its quantized layers on integers.

    Args:
        twin: a quantized transformer on a CUDA device.
        options: none of them concerns this backend; see `require_no_options`.

    Raises:
        ValueError: if there is no CUDA device, the model is not on one, a layer has no integer product, or an option
            is set.
    """
    device = next(twin.parameters()).device
    require_cuda(device)
    require_no_options(options or IntegerOptions())
    require_float_attention(twin)
    made = replace_linears(twin)
    runtime = f"torch {torch.__version__}, {torch.cuda.get_device_name(device)}"
    again = functools.partial(build, options=options)
    if is_published_dit(twin):
        return as_integer(IntegerDit, twin, step=functools.partial(predict, made), runtime=runtime, _build=again)
    return as_integer(IntegerTransformer, twin, step=made, runtime=runtime, _build=again)


def require_no_options(options: IntegerOptions) -> None:
    """Refuse what only the CPU backend does, by name, where it differs from the default."""
    for field in dataclasses.fields(options):
        given = getattr(options, field.name)
        if given != field.default and field.name not in ("cache", "cache_bytes"):
            raise ValueError(
                f"Expected IntegerOptions.{field.name} to be left at {field.default!r} on CUDA, where nothing is "
                f"compiled and the rest runs in the model's own type, got {given!r}."
            )


def require_float_attention(twin: Any) -> None:
    """Refuse a model whose attention is rounded: here are no kernels that multiply its integers."""
    for name, module in twin.named_modules():
        if isinstance(module, AttentionRounding):
            attention = name.rpartition(".")[0]
            raise refusal(attention, "rounded q, k, v or softmax on CUDA", "attention_bits=16, softmax_bits=16")


def require_cuda(device: torch.device) -> None:
    """Refuse a model that is not on a working CUDA device, saying what to choose instead."""
    if not torch.cuda.is_available():
        raise ValueError(
            "Expected a CUDA device for the CUDA integer backend, and torch finds none. Run on the CPU "
            '(device="cpu", backend="integer") or choose backend="simulated".'
        )
    if device.type != "cuda":
        raise ValueError(f'Expected the model on CUDA, got {device}. Load it with device="cuda".')
    if torch.cuda.get_device_capability(device) < (7, 5):
        raise ValueError(
            f"Expected a GPU with int8 tensor cores (compute capability 7.5), got {torch.cuda.get_device_name(device)}."
            ' Choose backend="simulated".'
        )


def replace_linears(transformer: nn.Module) -> nn.Module:
    """A copy with `int8_module` in place of every `QuantizedLinear`; on any device on which ``torch._int_mm`` runs.

    Raises:
        ValueError: naming the first layer that has no integer product; also if there is no quantized layer.
    """
    done: dict[int, Any] = {}
    for module in transformer.modules():
        if isinstance(module, TimestepClock):
            done[id(module)] = copy.deepcopy(module)
    layers = {name: module for name, module in transformer.named_modules() if isinstance(module, QuantizedLinear)}
    if not layers:
        raise ValueError("Expected a quantized model, got a float one. Use ptq4dit.quantize(...) first.")
    for name, layer in layers.items():
        done[id(layer)] = int8_module(name, layer, done.get(id(layer.clock)))
    return copy.deepcopy(transformer, done)


def int8_module(name: str, layer: QuantizedLinear, clock: TimestepClock | None) -> nn.Module:
    """What multiplies integers in a layer's place.

    Args:
        name: of the layer, for refusals.
        layer: left as it is.
        clock: of the transformer that it becomes part of, where scales depend on the timestep.

    Raises:
        ValueError: if no integer product expresses it.
    """
    scales = layer.in_features // (layer.config.group_size or layer.in_features)
    if finds_scales(layer) and (layer.config.activation_group_size is not None or scales > 1):
        made: nn.Module = Int8GroupedLinear(token_linear_of(name, [layer]), layer.config)
    else:
        made = Int8Linear(integer_linear_of(name, [layer]), layer.config, clock)
    return Int8PatchEmbed(made, layer.patch) if isinstance(layer, QuantizedPatchEmbed) else made
