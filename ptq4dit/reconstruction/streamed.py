"""The closed form for models that do not fit in memory: one block is there at a time, its integers go to disk."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from ptq4dit.calibration.statistics import Calibration
from ptq4dit.calibration.trajectories import Trajectories
from ptq4dit.config.quantization import LayerConfig, QuantConfig
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.model.layers import Layer
from ptq4dit.model.streamed import device_of, is_streamed, stream_buffers, weights
from ptq4dit.quantized.activation import is_static
from ptq4dit.quantized.convert import quantized_layers, settings_of
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.quantized.ranges import layer_range
from ptq4dit.reconstruction.report import Progress
from ptq4dit.reconstruction.run import reconstruct_transformer


def quantize_streamed(
    transformer: nn.Module,
    stats: Calibration,
    data: Trajectories,
    config: QuantConfig,
    folder: Path,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> nn.Module:
    """Round a streamed transformer's blocks, one after the other, and learn each one's rounding in closed form.

    Memory holds one block in float and in integers, and the data of one block, however many blocks there are. Nothing
    is balanced (folding would rewrite the weights on disk), and only the linears of the blocks are rounded.

    Args:
        transformer: float, its weights on disk by `ptq4dit.model.streamed.stream`; left as it is.
        stats: its calibration, of recorded calls.
        data: recorded calls that the rounding is learned from.
        config: bits and ranges; ``reconstruction`` says how the rounding is learned.
        folder: for the integers, a folder for each layer.
        progress, cancelled: as for `ptq4dit.quantize`.

    Returns:
        A transformer of the same class whose quantized layers read their integers from ``folder`` as they are called.

    Raises:
        ValueError: for a model that is in memory, or a config that balances or rounds other layers.
    """
    if not any(map(is_streamed, transformer.modules())):
        raise ValueError("Expected a model whose weights are on disk, got one in memory. Use ptq4dit.quantize.")
    stats.require_model(transformer)
    layers = quantized_layers(transformer, config)
    if config.csb or config.balance_inputs or any(layer.block is None for layer in layers.values()):
        raise ValueError(
            "Expected csb=False, no balance_inputs and the blocks' layers only for a model on disk, got others. Set "
            "them so, or quantize the model in memory."
        )
    result = copy.deepcopy(transformer)
    rooms = _Rooms(result, layers, settings_of(layers, config), stats, folder)
    reconstruct_transformer(
        transformer,
        result,
        data,
        config.reconstruction or ReconstructionConfig(),
        progress=progress,
        cancelled=cancelled,
        entered=rooms.enter,
        left=rooms.leave,
    )
    return result.eval()


class _Rooms:
    """Quantizes the layers of a block as the walk comes to it, and puts them on disk as it leaves."""

    def __init__(
        self,
        result: nn.Module,
        layers: Mapping[str, Layer],
        settings: Mapping[str, LayerConfig],
        stats: Calibration,
        folder: Path,
    ) -> None:
        self._result, self._layers, self._settings, self._stats, self._folder = result, layers, settings, stats, folder
        self._device = device_of(result)

    def enter(self, path: str) -> None:
        """Round the linears of a block to nearest."""
        for name, layer in self._layers.items():
            if layer.block == path:
                for linear in layer.paths:
                    self._result.set_submodule(linear, self._rounded(name, self._result.get_submodule(linear)))

    def leave(self, path: str) -> None:
        """Keep the integers of a block on disk."""
        for name, module in list(self._result.get_submodule(path).named_modules()):
            if isinstance(module, QuantizedLinear):
                module.release()
                stream_buffers(module, self._folder / f"{path}.{name}", self._device)

    @torch.no_grad()
    def _rounded(self, name: str, linear: nn.Module) -> QuantizedLinear:
        assert isinstance(linear, nn.Linear)
        layer = self._settings[name]
        limits = layer_range(self._stats, name, layer, [slice(None)], None) if is_static(layer) else None
        with weights(linear):
            return QuantizedLinear.from_float(linear, layer, limits)
