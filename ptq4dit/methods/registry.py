"""The registry of methods, and `quantize`, which runs the one that a config names."""

import dataclasses
import importlib
import os
from collections.abc import Callable
from pathlib import Path

from torch import nn

from ptq4dit.backends.dispatch import with_backend
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.calibration.trajectories import Trajectories
from ptq4dit.checkpoint.quantizer import as_diffusers
from ptq4dit.config.methods import method_names
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.method import Job, Method
from ptq4dit.model.bundle import Dit
from ptq4dit.model.families.generic import recall
from ptq4dit.model.layers import require_finite
from ptq4dit.model.streamed import any_streamed
from ptq4dit.parallel import processes
from ptq4dit.sampling.example import example_call

METHODS: dict[str, Method] = {
    name: importlib.import_module(f"ptq4dit.methods.{name}").METHOD for name in method_names()
}
"""Name -> method, in the order in which tables show them."""


def quantize(
    dit: Dit,
    stats: Calibration,
    config: QuantConfig | None = None,
    *,
    data: Trajectories | None = None,
    progress: Callable[..., None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    folder: str | os.PathLike[str] | None = None,
    offload_folder: str | os.PathLike[str] | None = None,
) -> Dit:
    """Quantize a float model by the method that the config names.

    Deviation: by default the four linears of every block are rounded; the patch embedding, conditioning, modulation,
    final layer and the attention's own products, which the released code rounds as well, are switches of the config.

    Args:
        dit: a float bundle, left as it is.
        stats: its calibration.
        config: method, bits, ranges and the rest; None for PTQ4DiT at W8A8 without reconstruction.
        data: inputs of the model for reconstruction; sampled when needed if not given.
        progress: told about every step of reconstruction.
        cancelled: asked between pieces of work; once it says True, `ptq4dit.Cancelled` is raised.
        folder: where reconstruction keeps its state after each block, to go on after a stop.
        offload_folder: for the integers of a model whose weights are on disk (``ptq4dit.load(offload_folder=...)``);
            memory holds one block at a time, and the result reads its own from there. None for one beside the
            weights, which is gone with the result.

    Returns:
        The bundle with a quantized transformer of the same class.

    Raises:
        ValueError: if the model is quantized already, ``stats`` belong to another one, a weight is not finite, or the
            method does not know what the config asks for.
    """
    _require_kinds(stats, config)
    config = config or QuantConfig()
    _require_simulated(dit.transformer, config)
    recall(dit.transformer, stats.paths)
    require_finite(dit.transformer)
    stats.require_model(dit.transformer)
    if stats.example is None and dit.scheduler is not None:
        stats = dataclasses.replace(stats, example=example_call(dit))
    method = METHODS[config.method]
    job = Job(
        dit=dit,
        stats=stats,
        config=method.prepared(config),
        given_data=data,
        progress=progress,
        cancelled=cancelled,
        folder=None if folder is None else Path(folder),
        offload=None if offload_folder is None else processes().own(Path(offload_folder)),
    )
    model = method.run(job)
    as_diffusers(model.torch_transformer, model.transformer.ptq4dit_record)
    return model if job.config.backend == "simulated" else with_backend(model, job.config.backend)


def quantize_transformer(
    transformer: nn.Module,
    stats: Calibration,
    config: QuantConfig | None = None,
    *,
    data: Trajectories | None = None,
    progress: Callable[..., None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    offload_folder: str | os.PathLike[str] | None = None,
) -> nn.Module:
    """Quantize any float transformer, of diffusers or of your own, without a pipeline around it.

    That folding changes nothing is proven on a call that `watch` saw; statistics from a file know none.

    Args:
        transformer: left as it is.
        stats: its calibration, from ``ptq4dit.watch(transformer)`` or a file.
        config: see `quantize`.
        data: recorded calls to learn the rounding from; a method that learns it is refused without.
        progress, cancelled, offload_folder: see `quantize`.

    Returns:
        A transformer of the same class with quantized layers, to put into any pipeline.

    Raises:
        ValueError: as `quantize`.
    """
    bare = Dit(transformer=transformer, vae=None, scheduler=None, id2label={}, source=type(transformer).__name__)
    given = {"data": data, "progress": progress, "cancelled": cancelled, "offload_folder": offload_folder}
    return quantize(bare, stats, config, **given).transformer  # type: ignore[arg-type]


def _require_kinds(stats: object, config: object) -> None:
    if not isinstance(stats, Calibration):
        got = f"{stats!r}" if isinstance(stats, str | os.PathLike | None) else f"a {type(stats).__name__}"
        raise ValueError(
            f"Expected a ptq4dit.Calibration, got {got}. Pass ptq4dit.Calibration.load(file), or what "
            "`with ptq4dit.watch(transformer) as seen` saw: seen.calibration()."
        )
    if not isinstance(config, QuantConfig | None):
        raise ValueError(
            f"Expected a ptq4dit.QuantConfig, got a {type(config).__name__}. Write ptq4dit.QuantConfig(weight_bits=4)."
        )


def _require_simulated(transformer: nn.Module, config: QuantConfig) -> None:
    if config.backend != "simulated" and any_streamed(transformer):
        raise ValueError(
            f"Expected backend='simulated' for a model that stays on disk, got {config.backend!r}. Save it, and load "
            "it with that backend."
        )
