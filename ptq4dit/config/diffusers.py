"""What diffusers is told of this package: the name of the method, and the config that its loaders pass around.

Nothing here imports diffusers: the class has what its loaders ask of a quantization config.
"""

import copy
import dataclasses
import json
import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from ptq4dit.config.quantization import QuantConfig
from ptq4dit.config.record import QuantRecord, plain, short

FORMAT = "ptq4dit-transformer-1"


class QuantizationMethod(StrEnum):
    """The name under which diffusers knows this package."""

    PTQ4DIT = "ptq4dit"


class DiffusersConfig:
    """A quantization config for diffusers' ``from_pretrained``.

    Given by a person, it quantizes a float transformer as it is loaded::

        config = ptq4dit.DiffusersConfig(weight_bits=4, calibration="sd3-calibration.safetensors")
        SD3Transformer2DModel.from_pretrained(folder, subfolder="transformer", quantization_config=config)

    or, for a whole pipeline, ``PipelineQuantizationConfig(quant_mapping={"transformer": config})``. In the files of a
    quantized transformer it says how its modules are built again.

    Attributes:
        config: how to quantize, or how it was quantized.
        calibration: file with the calibration of the float transformer; None for a quantized one.
        stored: what made a quantized transformer; None for one that is to be quantized.
    """

    quant_method = QuantizationMethod.PTQ4DIT

    def __init__(
        self,
        config: QuantConfig | Mapping[str, Any] | None = None,
        *,
        calibration: str | os.PathLike[str] | None = None,
        stored: QuantRecord | None = None,
        **settings: Any,
    ) -> None:
        """Ask for quantization on loading.

        Args:
            config: how to quantize; or its fields, as keywords.
            calibration: from `ptq4dit.calibrate` or `ptq4dit.watch`, of the same float transformer.
            stored: for a transformer that is quantized already; nothing else is given then.
            settings: fields of `QuantConfig`.

        Raises:
            ValueError: if there is both a config and fields, a field is refused, or no calibration is named.
        """
        if config is not None and settings:
            raise ValueError(f"Expected a config or its fields, got both: {sorted(settings)}.")
        if stored is None and not isinstance(calibration, str | os.PathLike):
            raise ValueError(
                f"Expected calibration to be the file of a calibration, got {short(calibration)}. Make one with "
                "`python -m ptq4dit calibrate`, or with ptq4dit.watch(...)."
            )
        if stored is None and not isinstance(config, QuantConfig):
            config = QuantConfig(**(dict(config) if config is not None else settings))
        self.stored = stored
        self.config: QuantConfig = stored.config if stored is not None else config  # type: ignore[assignment]
        self.calibration = None if calibration is None else os.fspath(calibration)

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any], return_unused_kwargs: bool = False, **unused: Any) -> Any:
        """The config in a ``config.json``, or one that was written as a dict.

        Raises:
            ValueError: if a field is missing, unknown or refused.
        """
        values = {name: value for name, value in config_dict.items() if name != "quant_method"}
        if "layers" in values:
            if values.pop("format", None) != FORMAT:
                raise ValueError(
                    f"Expected format {FORMAT!r} in quantization_config, got {short(config_dict.get('format'))}. "
                    "Quantize again, or update ptq4dit."
                )
            result = cls(stored=QuantRecord.from_dict(values))
        else:
            result = cls(**values)
        return (result, unused) if return_unused_kwargs else result

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, what ``config.json`` holds."""
        name = {"quant_method": str(self.quant_method)}
        if self.stored is not None:
            return name | {"format": FORMAT} | self.stored.to_dict()
        return name | {"config": plain(dataclasses.asdict(self.config)), "calibration": self.calibration}

    def to_diff_dict(self) -> dict[str, Any]:
        """All of it: diffusers asks for what differs from the defaults."""
        return self.to_dict()

    def to_json_string(self, use_diff: bool = True) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def update(self, **changes: Any) -> dict[str, Any]:
        """Nothing of it can be changed by a loader's keywords: all are unused."""
        return changes

    def __deepcopy__(self, memo: dict[int, Any]) -> "DiffusersConfig":
        return copy.copy(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DiffusersConfig) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.config.label)

    def __repr__(self) -> str:
        return f"DiffusersConfig({self.config.label}, method={self.config.method!r}, calibration={self.calibration!r})"
