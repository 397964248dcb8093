"""How much each site's rounding shows in what the model predicts: one site rounded at a time, all else in float."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ptq4dit.backends.shared_copies import shallow_copy
from ptq4dit.calibration.run import Cancelled
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.calibration.trajectories import Trajectories
from ptq4dit.checkpoint.packed_state import pack, packed_names
from ptq4dit.config.quantization import FLOAT_BITS, QuantConfig
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.config.sensitivity import Sensitivity
from ptq4dit.model.bundle import Dit
from ptq4dit.model.layers import Layer
from ptq4dit.model.streamed import device_of, stored_value
from ptq4dit.paper.reparam import reparameterize
from ptq4dit.quantized.balance import absorbed, model_factors
from ptq4dit.quantized.convert import convert, quantized_layers
from ptq4dit.reconstruction.training import training_data
from ptq4dit.sampling.noise_correction import predicted_noise
from ptq4dit.sharing import shared

Modules = Mapping[str, nn.Module]
_AMOUNT = ReconstructionConfig(images=4)
"""Images that are sampled where no data are given, at the calibration's timesteps."""


@torch.no_grad()
def sensitivity(
    dit: Dit,
    stats: Calibration,
    config: QuantConfig | None = None,
    *,
    bits: Sequence[int] = (4, 8),
    data: Trajectories | None = None,
    samples: int = 16,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Sensitivity:
    """Round one site after the other, to each number of weight bits, and compare what the model predicts.

    Balancing is the config's, rounding is to nearest, whatever its method learns: that shifts errors, hardly their
    order. Of pairs (class and null class) the prediction is the one that guidance makes of them.

    Args:
        dit: a float bundle, left as it is.
        stats: its calibration.
        config: activations' bits and ranges, balancing, which layers; None for the defaults.
        bits: numbers of weight bits to try.
        data: inputs along sampling runs; sampled if not given.
        samples: how many of them, spread over images and timesteps; pairs stay pairs.
        progress: called with (sites done, in all), all bits counted.
        cancelled: asked before every site.

    Raises:
        Cancelled: once ``cancelled`` says True.
        ValueError: as `ptq4dit.quantize`.
    """
    plain = dataclasses.replace(
        config or QuantConfig(), backend="simulated", attention_bits=FLOAT_BITS, softmax_bits=FLOAT_BITS, overrides=()
    )
    stats.require_model(dit.transformer)
    layers = quantized_layers(dit.transformer, plain)
    factors = model_factors(stats, {name: layer for name, layer in layers.items() if layer.inside}, plain)
    exact = reparameterize(dit.transformer, absorbed(factors, layers)) if factors else dit.transformer
    judge = _Judge(exact, data or training_data(dit, stats.config, _AMOUNT, cancelled=cancelled), samples)
    errors: dict[str, dict[int, float]] = {name: {} for name in layers}
    sizes: dict[str, dict[int, int]] = {name: {} for name in layers}
    fixed, done = 0, 0
    for width in bits:
        twin = convert(dit, stats, dataclasses.replace(plain, weight_bits=width), factors, layers=layers).transformer
        stored, fixed = _stored_bytes(twin, layers)
        mixed = shallow_copy(twin)
        rounded = {path: mixed.get_submodule(path) for layer in layers.values() for path in layer.paths}
        exact_ones = {path: exact.get_submodule(path) for path in rounded}
        _put(mixed, exact_ones, rounded)

        def judged(
            name: str, mixed: Any = mixed, rounded: Modules = rounded, exact_ones: Modules = exact_ones
        ) -> tuple[float]:
            if cancelled is not None and cancelled():
                raise Cancelled("Measuring the sensitivity was cancelled.")
            _put(mixed, rounded, layers[name].paths)
            error = judge.error(mixed)
            _put(mixed, exact_ones, layers[name].paths)
            return (error,)

        for name, (error,) in zip(layers, shared(list(layers), judged), strict=True):
            errors[name][width], sizes[name][width] = error, stored[name]
            done += 1
            if progress is not None:
                progress(done, len(bits) * len(layers))
    return Sensitivity(
        model=stats.model,
        samples=judge.count,
        errors=errors,
        bytes=sizes,
        fixed_bytes=fixed,
        settings={name: getattr(plain, name) for name in ("activation_bits", "csb", "ssc")},
    )


class _Judge:
    """Compares predictions for the same inputs with those of one transformer."""

    def __init__(self, exact: Any, data: Trajectories, samples: int) -> None:
        paired = data.config.guidance_scale > 1 and bool(data.halves.any())
        self._data, self._guidance = data, data.config.guidance_scale if paired else 1.0
        groups = data.pairs() if paired else torch.arange(len(data))[:, None]
        wanted = max(1, min(len(groups), samples // groups.shape[1]))
        chosen = torch.randperm(len(groups), generator=torch.Generator().manual_seed(0))[:wanted]
        self._rows: Int[Tensor, " chosen"] = groups[chosen.sort().values].flatten()
        self._right = self._prediction(exact)

    @property
    def count(self) -> int:
        """Calls' samples that are compared."""
        return len(self._rows)

    def error(self, transformer: Any) -> float:
        """``||e_q - e||^2 / ||e||^2``."""
        wrong = self._prediction(transformer) - self._right
        return float(wrong.square().sum() / self._right.square().sum())

    def _prediction(self, transformer: Any) -> Float[Tensor, "..."]:
        device = device_of(transformer)
        shape = tuple(self._data.latents.shape[1:])
        noise = predicted_noise(transformer, lambda rows: self._data.call(rows, device), self._rows, shape).double()
        return noise if self._guidance <= 1 else self._guidance * noise[0::2] - (self._guidance - 1) * noise[1::2]


def _put(transformer: nn.Module, modules: Mapping[str, nn.Module], paths: Iterable[str]) -> None:
    """Let a transformer have these modules at some paths, in place."""
    for path in paths:
        transformer.set_submodule(path, modules[path])


def _stored_bytes(twin: Any, layers: Mapping[str, Layer]) -> tuple[dict[str, int], int]:
    """Bytes of each layer as a checkpoint stores it, and of all else."""
    names = packed_names(twin.ptq4dit_record)
    state = {name: stored_value(twin, name, value) for name, value in twin.state_dict().items()}
    own = {
        name: {key: state.pop(key) for path in layer.paths for key in list(state) if key.startswith(f"{path}.")}
        for name, layer in layers.items()
    }
    return {name: _bytes(part, names) for name, part in own.items()}, _bytes(state, names)


def _bytes(state: Mapping[str, Tensor], names: set[str]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in pack(state, names)[0].values())
