"""Quantize a float transformer while diffusers loads it: ``quantization_config=ptq4dit.DiffusersConfig(...)``."""

from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import FrozenDict

from ptq4dit.calibration.statistics import Calibration
from ptq4dit.checkpoint.quantizer import PackedQuantizer
from ptq4dit.methods.registry import quantize_transformer


class OnLoadQuantizer(PackedQuantizer):
    """Lets diffusers load the float weights, then quantizes them; from then on it is a `PackedQuantizer`."""

    def validate_environment(self, *_: Any, **__: Any) -> None:
        """Refuse a calibration that is not there before any weight is read.

        Raises:
            ValueError: if there is none.
        """
        if self.quantization_config.stored is None and not Path(str(self.quantization_config.calibration)).is_file():
            raise ValueError(
                f"Expected a calibration file, got {self.quantization_config.calibration!r}, which does not exist. "
                "Make one with `python -m ptq4dit calibrate`, or with ptq4dit.watch(...)."
            )

    def update_torch_dtype(self, torch_dtype: torch.dtype | None) -> torch.dtype | None:
        """The loader casts, as for any float model."""
        return torch_dtype

    def maybe_update_loaded_keys(self, loaded_keys: list[str], checkpoint_files: list[str]) -> list[str]:
        """The names are those of a float model."""
        return loaded_keys

    def maybe_update_state_dict(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """The tensors are those of a float model."""
        return state_dict

    def _process_model_before_weight_loading(self, model: Any, **_: Any) -> None:
        model.is_quantized = False

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> None:
        asked = self.quantization_config
        plain = {name: value for name, value in model.config.items() if name != "quantization_config"}
        model._internal_dict = FrozenDict(plain)  # the fingerprint of a float model is that of its own config
        stats = Calibration.load(str(asked.calibration))
        made = quantize_transformer(model.eval(), stats, asked.config)
        vars(model).update(vars(made))  # the loader goes on with this object, and returns it
        self.quantization_config = model.config.quantization_config
