"""What calibration knows about a model: per-timestep channel ranges, weight salience and a few token rows."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float16, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ptq4dit.config import CalibrationConfig
from ptq4dit.fingerprint import fingerprint
from ptq4dit.linears import balanced_layers
from ptq4dit.paper.reparam import reparameterize
from ptq4dit.paper.salience import weight_salience

_FORMAT = "ptq4dit-calibration-1"
_PER_LAYER = ("activation_min", "activation_max", "weight_salience", "samples")
_HALF_MAX = torch.finfo(torch.float16).max


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Statistics of one float model. Dicts are keyed by layer name, in model order.

    Attributes:
        config: how it was made.
        model: `fingerprint` of the transformer that it belongs to.
        timesteps: ``(T,)`` training timesteps in the order in which sampling visits them, noisiest first.
        activation_min: layer -> ``(T, d_in)``, smallest value of each input channel at each timestep.
        activation_max: layer -> ``(T, d_in)``, largest value.
        weight_salience: layer -> ``(d_in,)``, PTQ4DiT eq. 4; the largest over q, k and v for ``qkv``.
        samples: layer -> ``(T, rows, d_in)`` in half precision, token rows drawn uniformly; all layers keep the same
            tokens.
        sample_keys: ``(T, rows)``, the random priority that chose each row; merging keeps the highest.
    """

    config: CalibrationConfig
    model: str
    timesteps: Int[Tensor, " timestep"]
    activation_min: Mapping[str, Float[Tensor, "timestep channel"]]
    activation_max: Mapping[str, Float[Tensor, "timestep channel"]]
    weight_salience: Mapping[str, Float[Tensor, " channel"]]
    samples: Mapping[str, Float16[Tensor, "timestep row channel"]]
    sample_keys: Float[Tensor, "timestep row"]

    @property
    def layers(self) -> list[str]:
        """Layer names in model order, all four roles."""
        return list(self.activation_min)

    @cached_property
    def activation_salience(self) -> dict[str, Float[Tensor, "timestep channel"]]:
        """Layer -> ``(T, d_in)``, ``max |X_j|`` at each timestep (PTQ4DiT eq. 4)."""
        return {
            layer: torch.maximum(self.activation_min[layer].abs(), self.activation_max[layer].abs())
            for layer in self.layers
        }

    def require_model(self, transformer: nn.Module) -> None:
        """Refuse a transformer that these statistics do not belong to.

        Raises:
            ValueError: if the fingerprints differ.
        """
        if fingerprint(transformer) != self.model:
            raise ValueError(
                "Expected the model that was calibrated, got one with other weights or another config. Calibrate this "
                "model, or use Calibration.rescaled(...) if it is a re-parameterization of the calibrated one."
            )

    def rescaled(self, factors: Mapping[str, Float[Tensor, " channel"]], transformer: nn.Module) -> "Calibration":
        """What calibrating ``reparameterize(transformer, factors)`` would give, without running the model.

        Re-parameterization multiplies the input channels of the layers in ``factors`` and changes no other input, so
        ranges and rows are multiplied channel by channel; weight salience is read from the rescaled weights.

        Args:
            factors: layer name -> ``(d_in,)``, as for `reparameterize`.
            transformer: the calibrated model itself, before re-parameterization.
        """
        self.require_model(transformer)
        return self.rescaled_for(factors, reparameterize(transformer, factors))

    def rescaled_for(self, factors: Mapping[str, Float[Tensor, " channel"]], folded: nn.Module) -> "Calibration":
        """`rescaled` for a caller that has ``folded = reparameterize(transformer, factors)`` at hand already."""
        return dataclasses.replace(
            self,
            model=fingerprint(folded),
            activation_min=_scaled(self.activation_min, factors),
            activation_max=_scaled(self.activation_max, factors),
            weight_salience=layer_weight_salience(folded),
            samples={name: to_half(rows) for name, rows in _scaled(self.samples, factors).items()},
        )

    def merge(self, *others: "Calibration") -> "Calibration":
        """Join calibrations of disjoint, adjoining ranges of images (``config.first_sample``), made by processes.

        The result equals a single calibration of all the images, whatever the order of the parts.

        Raises:
            ValueError: if they differ in model or config, or the ranges leave gaps or overlap.
        """
        parts = sorted((self, *others), key=lambda part: part.config.first_sample)
        config = _merged_config(parts)
        keys = torch.cat([part.sample_keys for part in parts], dim=1)
        keep = keys.topk(min(config.rows_per_timestep, keys.shape[1]), dim=1).indices
        return dataclasses.replace(
            self,
            config=config,
            activation_min={n: torch.stack([p.activation_min[n] for p in parts]).amin(0) for n in self.layers},
            activation_max={n: torch.stack([p.activation_max[n] for p in parts]).amax(0) for n in self.layers},
            samples={
                n: torch.cat([p.samples[n] for p in parts], 1).take_along_dim(keep[..., None], 1) for n in self.layers
            },
            sample_keys=keys.take_along_dim(keep, 1),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, atomically; config, layers and model identity are in its metadata."""
        tensors = {f"{kind}/{n}": getattr(self, kind)[n].contiguous() for kind in _PER_LAYER for n in self.layers}
        tensors |= {"timesteps": self.timesteps.contiguous(), "sample_keys": self.sample_keys.contiguous()}
        metadata = {
            "format": _FORMAT,
            "config": self.config.to_json(),
            "model": self.model,
            "layers": json.dumps(self.layers),
        }
        target = Path(path)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            save_file(tensors, Path(folder) / target.name, metadata)
            os.replace(Path(folder) / target.name, target)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Calibration":
        """Read what `save` wrote.

        Raises:
            ValueError: if the file is missing, is not a calibration, or lacks or adds a tensor.
        """
        metadata, tensors = _read(Path(path))
        layers = json.loads(metadata["layers"])
        expected = {f"{kind}/{name}" for kind in _PER_LAYER for name in layers} | {"timesteps", "sample_keys"}
        if set(tensors) != expected:
            raise ValueError(
                f"Expected the tensors of {len(layers)} layers in {path}, got other ones. Calibrate again."
            )
        per_layer: dict[str, Any] = {kind: {n: tensors[f"{kind}/{n}"] for n in layers} for kind in _PER_LAYER}
        return Calibration(
            config=CalibrationConfig.from_json(metadata["config"]),
            model=metadata["model"],
            timesteps=tensors["timesteps"],
            sample_keys=tensors["sample_keys"],
            **per_layer,
        )


def layer_weight_salience(transformer: nn.Module) -> dict[str, Float[Tensor, " channel"]]:
    """Layer name -> salience of its weight's input channels, ``(d_in,)`` (PTQ4DiT eq. 4)."""
    return {
        name: weight_salience([linear.weight.detach() for linear in layer.linears])
        for name, layer in balanced_layers(transformer).items()
    }


def to_half(rows: Float[Tensor, "..."]) -> Float16[Tensor, "..."]:
    """Half precision, saturating: enough for error estimates at a quarter or half of the size."""
    return rows.clamp(-_HALF_MAX, _HALF_MAX).half()


def _scaled(values: Mapping[str, Tensor], factors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: (value.double() * factors[name].double().to(value.device)).to(_at_least_float(value))
        if name in factors
        else value
        for name, value in values.items()
    }


def _at_least_float(value: Tensor) -> torch.dtype:
    return torch.promote_types(value.dtype, torch.float32)


def _merged_config(parts: list[Calibration]) -> CalibrationConfig:
    first = parts[0]
    end = first.config.first_sample
    for part in parts:
        alike = dataclasses.replace(part.config, first_sample=0, samples_per_timestep=1) == dataclasses.replace(
            first.config, first_sample=0, samples_per_timestep=1
        )
        if part.model != first.model or not alike:
            raise ValueError("Expected calibrations of one model made with one config, got different ones.")
        if part.config.first_sample != end:
            raise ValueError(
                f"Expected adjoining ranges of images, got one that starts at {part.config.first_sample} where {end} "
                "comes next. Set first_sample so that every image is seen once."
            )
        end += part.config.samples_per_timestep
    return dataclasses.replace(first.config, samples_per_timestep=end - first.config.first_sample)


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise ValueError(f"Expected a calibration file, got {str(path)!r}, which does not exist. Make one: calibrate.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"Expected a calibration file, got {str(path)!r}, which is damaged: {error}") from error
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"Expected format {_FORMAT!r} in {str(path)!r}, got {metadata.get('format')!r}.")
    return metadata, tensors
