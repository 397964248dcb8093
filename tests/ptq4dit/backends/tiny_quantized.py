"""A tiny transformer of any family, every linear in its blocks quantized from what one call gives it."""

import copy

import torch
from torch import nn

from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import LayerConfig, QuantConfig
from ptq4dit.quantized.linear import QuantizedLinear, QuantizedPatchEmbed
from ptq4dit.quantized.record import QuantRecord
from tests.ptq4dit.model.tiny_models import tiny


def tiny_quantized(name, **settings):
    """A simulated model, its call, and the float model; inputs are multiplied by random factors."""
    model, call = tiny(name, torch.float32)
    config = LayerConfig(**({"input_factor": True} | settings))
    result, generator = copy.deepcopy(model), torch.Generator().manual_seed(5)
    for path, inputs in inputs_of(model, call).items():
        factor = torch.rand(inputs.shape[-1], generator=generator) + 0.5
        scaled = inputs * factor if config.input_factor else inputs
        ends = scaled.min(), scaled.max()
        module = model.get_submodule(path)
        kind = QuantizedPatchEmbed if isinstance(module, nn.Conv2d) else QuantizedLinear
        result.set_submodule(path, kind.from_float(module, config, ends, None, factor if config.input_factor else None))
    names = tuple(path for path, module in result.named_modules() if isinstance(module, QuantizedLinear))
    record_config = QuantConfig(weight_bits=config.weight_bits, activation_bits=config.activation_bits)
    result.ptq4dit_record = QuantRecord(
        config=record_config,
        calibration=CalibrationConfig(),
        statistics={},
        model="tiny",
        layers={name: (name,) for name in names},
        settings=dict.fromkeys(names, config),
    )
    return result.eval(), call, model


def inputs_of(model, call):
    """Path of every linear, or 1x1 convolution, of a block that the call reaches -> its inputs ``(rows, d_in)``."""
    seen, hooks = {}, []
    for path, module in model.named_modules():
        pointwise = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
        if (isinstance(module, nn.Linear) or pointwise) and any(part.isdigit() for part in path.split(".")):

            def keep(_, args, path=path, channels=1 if pointwise else -1):
                seen.setdefault(path, []).append(args[0].detach().movedim(channels, -1).flatten(0, -2))

            hooks.append(module.register_forward_pre_hook(keep))
    with torch.no_grad():
        call.on(model)
    for hook in hooks:
        hook.remove()
    return {path: torch.cat(inputs) for path, inputs in seen.items()}
