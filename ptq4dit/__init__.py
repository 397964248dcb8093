"""ptq4dit: post-training quantization of diffusion transformers by the PTQ4DiT method (arXiv 2405.16005).

Names are imported when they are first used, so that ``import ptq4dit`` does not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptq4dit import lab, metrics, paper
    from ptq4dit.backends.dispatch import with_backend
    from ptq4dit.backends.options import IntegerOptions
    from ptq4dit.calibration import Calibration
    from ptq4dit.checkpoint import load_quantized, save_quantized
    from ptq4dit.config import CalibrationConfig, QuantConfig
    from ptq4dit.deploy.export import export
    from ptq4dit.dit import Dit, bundle, load
    from ptq4dit.hub import fetch_quantized, push_to_hub
    from ptq4dit.linears import Layer, balanced_layers
    from ptq4dit.methods.method import Method
    from ptq4dit.methods.registry import METHODS, quantize
    from ptq4dit.observe import Cancelled, calibrate
    from ptq4dit.quantized.convert import describe
    from ptq4dit.quantized.layer_error import layer_errors, layer_errors_per_timestep
    from ptq4dit.reconstruction.config import ReconstructionConfig
    from ptq4dit.reconstruction.run import reconstruct
    from ptq4dit.sampling import DenoiseState, decode, denoise, generate
    from ptq4dit.trajectories import Trajectories, collect

__version__ = "0.1.0"

_MODULE_OF = {
    "Calibration": "calibration",
    "CalibrationConfig": "config",
    "Cancelled": "observe",
    "DenoiseState": "sampling",
    "Dit": "dit",
    "IntegerOptions": "backends.options",
    "Layer": "linears",
    "QuantConfig": "config",
    "balanced_layers": "linears",
    "bundle": "dit",
    "calibrate": "observe",
    "decode": "sampling",
    "denoise": "sampling",
    "export": "deploy.export",
    "describe": "quantized.convert",
    "fetch_quantized": "hub",
    "generate": "sampling",
    "layer_errors": "quantized.layer_error",
    "layer_errors_per_timestep": "quantized.layer_error",
    "load": "dit",
    "load_quantized": "checkpoint",
    "push_to_hub": "hub",
    "quantize": "methods.registry",
    "METHODS": "methods.registry",
    "Method": "methods.method",
    "ReconstructionConfig": "reconstruction.config",
    "Trajectories": "trajectories",
    "collect": "trajectories",
    "reconstruct": "reconstruction.run",
    "save_quantized": "checkpoint",
    "with_backend": "backends.dispatch",
}
_SUBMODULES = ("lab", "metrics", "paper")

__all__ = [
    "METHODS",
    "Calibration",
    "CalibrationConfig",
    "Cancelled",
    "DenoiseState",
    "Dit",
    "IntegerOptions",
    "Layer",
    "Method",
    "QuantConfig",
    "ReconstructionConfig",
    "Trajectories",
    "balanced_layers",
    "bundle",
    "calibrate",
    "collect",
    "decode",
    "denoise",
    "describe",
    "export",
    "fetch_quantized",
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
    "reconstruct",
    "save_quantized",
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
