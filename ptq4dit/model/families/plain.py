"""Which modules have weights that can be read and rewritten as they stand; every other kind is refused by name."""

from collections.abc import Iterable

import torch
from torch import nn

from ptq4dit.model.streamed import is_streamed

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def plain_linear(transformer: nn.Module, path: str) -> nn.Linear | nn.Conv2d:
    """The float linear (or convolution) at ``path``.

    Raises:
        ValueError: if something else stands there: a quantized layer, a LoRA, a computed weight.
    """
    module = transformer.get_submodule(path)
    problem = _problem(module)
    if problem is None and not isinstance(module, nn.Linear | nn.Conv2d):
        problem = f"a {type(module).__name__}. {_instead(module)}"
    elif problem is None and type(module).forward not in (nn.Linear.forward, nn.Conv2d.forward):
        problem = f"a {type(module).__name__} with a forward of its own. {_QUANTIZED}"
    if problem is not None:
        raise ValueError(f"Expected a float nn.Linear at {path!r}, got {problem}")
    assert isinstance(module, nn.Linear | nn.Conv2d)
    return module


def shape_of(transformer: nn.Module, path: str) -> tuple[int, int]:
    """(rows, columns) of the linear or convolution at ``path``, be it on the meta device or quantized.

    Raises:
        ValueError: if nothing that stands there says so.
    """
    module = transformer.get_submodule(path)
    for rows, columns in (("out_features", "in_features"), ("out_channels", "in_channels")):
        if hasattr(module, rows) and hasattr(module, columns):
            return getattr(module, rows), getattr(module, columns)
    raise ValueError(f"Expected a float nn.Linear at {path!r}, got a {type(module).__name__}. {_instead(module)}")


def require_whole(transformer: nn.Module) -> None:
    """Refuse a model whose projections are fused copies, or that has an adapter attached: its layers are not its own.

    Raises:
        ValueError: naming the first such module.
    """
    for path, module in transformer.named_modules():
        if getattr(module, "fused_projections", False):
            raise ValueError(
                f"Expected separate q, k and v projections, got fused ones in {path!r}. Call unfuse_qkv_projections() "
                "on the transformer first; they can be fused again afterwards."
            )
        if hasattr(module, "base_layer"):
            raise ValueError(f"Expected a float nn.Linear at {path!r}, got {_problem(module)}")


def require_plain(transformer: nn.Module, paths: Iterable[str]) -> None:
    """Refuse a model in which the weight of a module at ``paths`` cannot be rewritten alone.

    Raises:
        ValueError: for a weight that is computed (weight_norm, spectral_norm), replaced (LoRA, torchao, bitsandbytes),
            on the meta device, not of 16 bits or more, or in the same memory as another parameter.
    """
    wanted = tuple(dict.fromkeys(paths))
    for path in wanted:
        problem = _problem(transformer.get_submodule(path))
        if problem is not None:
            raise ValueError(f"Expected float weights at {path!r}, got {problem}")
    _require_own_memory(transformer, wanted)


def require_own_kind(name: str, parameter: torch.Tensor) -> None:
    """Refuse a parameter that another package (torchao, bitsandbytes, quanto, GGUF) has made something else of.

    Raises:
        ValueError: naming it.
    """
    if type(parameter) is nn.Parameter and parameter.is_meta:
        raise ValueError(f"Expected float weights at {name!r}, got {_META}")
    if type(parameter) is not nn.Parameter or parameter.dtype not in FLOATS:
        kind = str(parameter.dtype) if type(parameter) is nn.Parameter else f"type {type(parameter).__name__}"
        raise ValueError(f"Expected float weights at {name!r}, got a weight of {kind}. {_QUANTIZED}")


_META = "a weight on the meta device, without values. Load the model with its weights, and without offloading."
_QUANTIZED = "The model is quantized already; start from the float model given by ptq4dit.load(...)."


def _problem(module: nn.Module) -> str | None:
    if hasattr(module, "base_layer"):
        return (
            f"a {type(module).__name__}: an adapter (LoRA) is attached. Merge it into the weights and unload it first."
        )
    weight = module._parameters.get("weight")
    if weight is None and _computed(module):
        return "a computed weight (weight_norm, spectral_norm or another parametrization). Remove it first."
    if weight is None:
        return f"a {type(module).__name__}. {_instead(module)}"
    if type(weight) is not nn.Parameter:
        return f"a weight of type {type(weight).__name__}. {_QUANTIZED}"
    if weight.is_meta and not is_streamed(module):
        return _META
    if weight.dtype not in FLOATS:
        return f"a weight of {weight.dtype}. {_QUANTIZED}"
    return None


def _instead(module: nn.Module) -> str:
    """What to do about a module that stands where a linear is expected."""
    if any(type(part) is nn.Linear for part in module.modules()):
        return "It wraps a linear, as adapters do: merge it into the weights, or put the linear in its place, first."
    return _QUANTIZED


def _computed(module: nn.Module) -> bool:
    """Quantized layers have a weight, too, but as a buffer."""
    weight = None if "weight" in module._buffers else getattr(module, "weight", None)
    return nn.utils.parametrize.is_parametrized(module) or isinstance(weight, torch.Tensor)


def _require_own_memory(transformer: nn.Module, paths: tuple[str, ...]) -> None:
    wanted = {f"{path}.{name}" for path in paths for name in ("weight", "bias")}
    spans = sorted(
        (parameter.data_ptr(), parameter.data_ptr() + parameter.numel() * parameter.element_size(), name)
        for name, parameter in transformer.named_parameters(remove_duplicate=False)
        if parameter.numel() and not parameter.is_meta and type(parameter) is nn.Parameter
    )
    end, last = 0, ""
    for start, stop, name in spans:
        if start < end and {name, last} & wanted:
            raise ValueError(
                f"Expected a weight of its own for every layer, got {last!r} and {name!r} in the same memory. "
                "Untie them first (clone one of the two)."
            )
        if stop > end:
            end, last = stop, name
