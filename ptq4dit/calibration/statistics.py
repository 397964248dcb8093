"""What calibration knows about a model: per-timestep channel ranges, weight salience and a few token rows."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Float16, Shaped
from torch import Tensor, nn

from ptq4dit.calibration.attention_names import value_factors
from ptq4dit.calibration.stored import StoredFile, require_statistics, stored_names, stored_paths
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.model.families.family import Call
from ptq4dit.model.fingerprint import fingerprint, is_fingerprint_of
from ptq4dit.model.layers import Layer, balanced_layers
from ptq4dit.model.streamed import weights
from ptq4dit.paper.reparam import reparameterize
from ptq4dit.paper.salience import weight_salience
from ptq4dit.storage.tensors import read_tensors, write_tensors

_FORMAT = "ptq4dit-calibration-2"
_MAPPINGS = (
    *("activation_min", "activation_max", "weight_salience", "samples", "sample_salience", "sample_weight"),
    *("extra_min", "extra_max"),
)
_HALF_MAX = torch.finfo(torch.float16).max


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Statistics of one float model. Dicts are keyed by layer name, in model order.

    Attributes:
        config: how it was made.
        model: `fingerprint` of the transformer that it belongs to.
        timesteps: ``(T,)`` timesteps as the model is given them (training timesteps, or flow matching's times), in the
            order in which sampling visits them, noisiest first.
        activation_min: layer -> ``(T, d_in)``, smallest value of each input channel at each timestep.
        activation_max: layer -> ``(T, d_in)``, largest value.
        weight_salience: layer -> ``(d_in,)``, PTQ4DiT eq. 4; the largest over q, k and v for ``qkv``.
        samples: layer -> ``(T, rows, d_in)`` in half precision, token rows drawn uniformly; layers with equally many
            tokens keep the same ones.
        sample_keys: layer -> ``(T, rows)``, the random priority that chose each row; merging keeps the highest.
        sample_salience: layer -> ``(d_in,)``, ``sum_n e^(-rho_n) s(X_n) / sum_n e^(-rho_n)`` over single sequences n of
            all timesteps, as the released code weighs them; empty after `rescaled`, which cannot know it.
        sample_weight: layer -> ``()``, ``sum_n e^(-rho_n)``.
        extra_min: site -> ``(T, channels)``, for the inputs of `layers.extra_layers` (one channel for the patch
            embedding) and, of every attention, for ``<name>.q``, ``.k``, ``.v`` as its product is given them (after
            norms and rotation, all heads' channels) and ``.softmax`` (one channel); the name is
            `attention_names.range_name`. None in files of before, but for the DiT's.
        extra_max: site -> ``(T, channels)``.
        paths: layer -> its linears in the transformer; empty in files of before other families were known.
        example: one call of the transformer, on which its folding is proven; in memory only.
    """

    config: CalibrationConfig
    model: str
    timesteps: Shaped[Tensor, " timestep"]
    activation_min: Mapping[str, Float[Tensor, "timestep channel"]]
    activation_max: Mapping[str, Float[Tensor, "timestep channel"]]
    weight_salience: Mapping[str, Float[Tensor, " channel"]]
    samples: Mapping[str, Float16[Tensor, "timestep row channel"]]
    sample_keys: Mapping[str, Float[Tensor, "timestep _"]]
    sample_salience: Mapping[str, Float[Tensor, " channel"]]
    sample_weight: Mapping[str, Float[Tensor, ""]]
    extra_min: Mapping[str, Float[Tensor, "timestep _"]]
    extra_max: Mapping[str, Float[Tensor, "timestep _"]]
    paths: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    example: Call | None = None

    @property
    def layers(self) -> list[str]:
        """Layer names in model order, all roles."""
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
        if not is_fingerprint_of(self.model, transformer):
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
        layers = balanced_layers(folded)
        salience = layer_weight_salience(layers)
        return dataclasses.replace(
            self.scaled(factors, value_factors(folded, factors, layers)),
            model=fingerprint(folded),
            weight_salience={name: values.cpu() for name, values in salience.items()},
        )

    def scaled(
        self,
        factors: Mapping[str, Float[Tensor, " channel"]],
        values: Mapping[str, Float[Tensor, " channel"]] | None = None,
    ) -> "Calibration":
        """Activations with their channels multiplied by factors; weight salience and model stay those of before.

        Args:
            factors: layer name -> ``(d_in,)``.
            values: name of a range of `extra_min` -> factor, see `attention_names.value_factors`; a range of other
                channels is left out, as what it becomes is not known.
        """
        values = values or {}
        known = {n: v for n, v in self.extra_min.items() if n not in values or v.shape[-1] == len(values[n])}
        return dataclasses.replace(
            self,
            activation_min=_scaled(self.activation_min, factors),
            activation_max=_scaled(self.activation_max, factors),
            samples={name: to_half(rows) for name, rows in _scaled(self.samples, factors).items()},
            sample_salience={},
            sample_weight={},
            extra_min=_scaled(known, values),
            extra_max=_scaled({name: self.extra_max[name] for name in known}, values),
        )

    def at_timesteps(self, positions: Sequence[int]) -> "Calibration":
        """The part of these statistics that was seen at some of the timesteps.

        Args:
            positions: ascending positions in ``timesteps``, at least one.
        """
        chosen = list(positions)
        if not chosen:
            raise ValueError("Expected at least one timestep to keep, got none.")
        kept: dict[str, Any] = {
            kind: {name: value[chosen] for name, value in getattr(self, kind).items()}
            for kind in ("activation_min", "activation_max", "samples", "sample_keys", "extra_min", "extra_max")
        }
        return dataclasses.replace(self, timesteps=self.timesteps[chosen], **kept)

    def merge(self, *others: "Calibration") -> "Calibration":
        """Join calibrations of disjoint, adjoining ranges of images (``config.first_sample``), made by processes.

        The result equals a single calibration of all the images, whatever the order of the parts.

        Raises:
            ValueError: if they differ in model or config, or the ranges leave gaps or overlap.
        """
        parts = sorted((self, *others), key=lambda part: part.config.first_sample)
        config = _merged_config(parts)
        keys = {n: torch.cat([part.sample_keys[n] for part in parts], dim=1) for n in self.layers}
        keep = {n: own.topk(min(config.rows_per_timestep, own.shape[1]), dim=1).indices for n, own in keys.items()}
        return dataclasses.replace(
            self,
            config=config,
            activation_min={n: torch.stack([p.activation_min[n] for p in parts]).amin(0) for n in self.layers},
            activation_max={n: torch.stack([p.activation_max[n] for p in parts]).amax(0) for n in self.layers},
            samples={
                n: torch.cat([p.samples[n] for p in parts], 1).take_along_dim(keep[n][..., None], 1)
                for n in self.layers
            },
            sample_keys={n: own.take_along_dim(keep[n], 1) for n, own in keys.items()},
            sample_salience={n: _weighted_mean(parts, n) for n in self.sample_salience},
            sample_weight={n: torch.stack([p.sample_weight[n] for p in parts]).sum(0) for n in self.sample_weight},
            extra_min={n: torch.stack([p.extra_min[n] for p in parts]).amin(0) for n in self.extra_min},
            extra_max={n: torch.stack([p.extra_max[n] for p in parts]).amax(0) for n in self.extra_max},
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, atomically; config, names and model identity are in its metadata."""
        names = {kind: list(getattr(self, kind)) for kind in _MAPPINGS}
        tensors = {f"{kind}/{name}": getattr(self, kind)[name] for kind in names for name in names[kind]}
        tensors |= {"timesteps": self.timesteps} | self._stored_keys()
        metadata = {"config": self.config.to_json(), "model": self.model, "names": json.dumps(names)}
        metadata |= {"paths": json.dumps(self.paths)} if self.paths else {}
        write_tensors(path, tensors, metadata, _FORMAT)

    def _stored_keys(self) -> dict[str, Tensor]:
        """One tensor where all layers keep the same tokens, else one for each."""
        first, *others = self.sample_keys.values()
        if all(other is first or torch.equal(other, first) for other in others):
            return {"sample_keys": first}
        return {f"sample_keys/{name}": keys for name, keys in self.sample_keys.items()}

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Calibration":
        """Read what `save` wrote.

        Raises:
            ValueError: if the file is missing, is not a calibration, lacks or adds a tensor, or holds one that is not
                finite or does not fit the others.
        """
        file = StoredFile("calibration", os.fspath(path), *read_tensors(path, _FORMAT, "calibration"))
        names = stored_names(file, _MAPPINGS)
        own_keys = {name: f"sample_keys/{name}" for name in names["samples"]}
        own_keys = dict.fromkeys(own_keys, "sample_keys") if "sample_keys" in file.tensors else own_keys
        every = {f"{kind}/{name}" for kind in _MAPPINGS for name in names[kind]}
        every |= {"timesteps"} | set(own_keys.values())
        file.require_tensors(every, f"the tensors of {len(own_keys)} layers")
        require_statistics(file, names, own_keys)
        mappings: dict[str, Any] = {kind: {n: file.tensors[f"{kind}/{n}"] for n in names[kind]} for kind in _MAPPINGS}
        return Calibration(
            config=file.config(),
            model=file.text("model"),
            timesteps=file.tensors["timesteps"],
            sample_keys={name: file.tensors[key] for name, key in own_keys.items()},
            paths=stored_paths(file, names["samples"]),
            **mappings,
        )


def layer_weight_salience(layers: Mapping[str, Layer]) -> dict[str, Float[Tensor, " channel"]]:
    """Layer name -> salience of its weight's input channels, ``(d_in,)`` (PTQ4DiT eq. 4)."""
    found = {}
    for name, layer in layers.items():
        with weights(*layer.linears):
            found[name] = weight_salience([linear.weight.detach().flatten(1) for linear in layer.linears])
    return found


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


def _weighted_mean(parts: list[Calibration], layer: str) -> Tensor:
    weights = torch.stack([part.sample_weight[layer] for part in parts])
    values = torch.stack([part.sample_salience[layer] for part in parts])
    return (weights[:, None] * values).sum(0) / weights.sum()


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
