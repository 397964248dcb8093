"""ptq4dit: post-training quantization of diffusion transformers by the PTQ4DiT method (arXiv 2405.16005).

Names are imported when they are first used, so that ``import ptq4dit`` does not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ptq4dit.diffusers_hook import register as _register
from ptq4dit.version import __version__ as __version__

if TYPE_CHECKING:
    from ptq4dit import lab, metrics, paper
    from ptq4dit.backends.dispatch import with_backend
    from ptq4dit.backends.options import IntegerOptions
    from ptq4dit.calibration.run import Cancelled, calibrate
    from ptq4dit.calibration.statistics import Calibration
    from ptq4dit.calibration.trajectories import Trajectories, collect
    from ptq4dit.calibration.watch import watch
    from ptq4dit.checkpoint.hub import fetch_quantized, push_to_hub
    from ptq4dit.checkpoint.opening import load
    from ptq4dit.checkpoint.packed import load_quantized, save_quantized
    from ptq4dit.config.calibration import CalibrationConfig
    from ptq4dit.config.diffusers import DiffusersConfig
    from ptq4dit.config.quantization import QuantConfig
    from ptq4dit.config.reconstruction import ReconstructionConfig
    from ptq4dit.config.sensitivity import Sensitivity
    from ptq4dit.deploy.export import export
    from ptq4dit.methods.method import Method
    from ptq4dit.methods.registry import METHODS, quantize, quantize_transformer
    from ptq4dit.methods.sensitivity import sensitivity
    from ptq4dit.model.bundle import Bundle, Dit, bundle
    from ptq4dit.model.layers import Layer, balanced_layers
    from ptq4dit.quantized.convert import describe
    from ptq4dit.quantized.layer_error import layer_errors, layer_errors_per_timestep
    from ptq4dit.reconstruction.run import reconstruct
    from ptq4dit.sampling.denoise import decode, denoise, generate
    from ptq4dit.sampling.prompts import EncodedPrompts, default_prompts, encode_prompts, free_text_encoders
    from ptq4dit.sampling.state import DenoiseState


_MODULE_OF = {
    "Bundle": "model.bundle",
    "Calibration": "calibration.statistics",
    "CalibrationConfig": "config.calibration",
    "Cancelled": "calibration.run",
    "DenoiseState": "sampling.state",
    "DiffusersConfig": "config.diffusers",
    "Dit": "model.bundle",
    "EncodedPrompts": "sampling.prompts",
    "IntegerOptions": "backends.options",
    "Layer": "model.layers",
    "QuantConfig": "config.quantization",
    "balanced_layers": "model.layers",
    "bundle": "model.bundle",
    "calibrate": "calibration.run",
    "decode": "sampling.denoise",
    "denoise": "sampling.denoise",
    "export": "deploy.export",
    "default_prompts": "sampling.prompts",
    "describe": "quantized.convert",
    "encode_prompts": "sampling.prompts",
    "fetch_quantized": "checkpoint.hub",
    "free_text_encoders": "sampling.prompts",
    "generate": "sampling.denoise",
    "layer_errors": "quantized.layer_error",
    "layer_errors_per_timestep": "quantized.layer_error",
    "load": "checkpoint.opening",
    "load_quantized": "checkpoint.packed",
    "push_to_hub": "checkpoint.hub",
    "quantize": "methods.registry",
    "quantize_transformer": "methods.registry",
    "watch": "calibration.watch",
    "METHODS": "methods.registry",
    "Method": "methods.method",
    "ReconstructionConfig": "config.reconstruction",
    "Trajectories": "calibration.trajectories",
    "collect": "calibration.trajectories",
    "Sensitivity": "config.sensitivity",
    "reconstruct": "reconstruction.run",
    "save_quantized": "checkpoint.packed",
    "sensitivity": "methods.sensitivity",
    "with_backend": "backends.dispatch",
}
_SUBMODULES = ("lab", "metrics", "paper")

__all__ = [
    "METHODS",
    "Bundle",
    "Calibration",
    "CalibrationConfig",
    "Cancelled",
    "DenoiseState",
    "DiffusersConfig",
    "Dit",
    "EncodedPrompts",
    "IntegerOptions",
    "Layer",
    "Method",
    "QuantConfig",
    "ReconstructionConfig",
    "Sensitivity",
    "Trajectories",
    "balanced_layers",
    "bundle",
    "calibrate",
    "collect",
    "decode",
    "default_prompts",
    "denoise",
    "describe",
    "encode_prompts",
    "export",
    "fetch_quantized",
    "free_text_encoders",
    "generate",
    "lab",
    "layer_errors",
    "layer_errors_per_timestep",
    "load",
    "load_quantized",
    "metrics",
    "paper",
    "push_to_hub",
    "quantize",
    "quantize_transformer",
    "reconstruct",
    "save_quantized",
    "sensitivity",
    "watch",
    "with_backend",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"ptq4dit.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'ptq4dit' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"ptq4dit.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


_register()
