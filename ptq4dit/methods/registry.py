"""The registry of methods, and `quantize`, which runs the one that a config names."""

import os
from collections.abc import Callable
from pathlib import Path

from ptq4dit.backends.dispatch import with_backend
from ptq4dit.calibration import Calibration
from ptq4dit.config import METHOD_NAMES, QuantConfig
from ptq4dit.dit import Dit
from ptq4dit.linears import require_finite
from ptq4dit.methods import (
    dynamic,
    gptq,
    hadamard,
    ours,
    ptq4dit,
    ptq4dm,
    ptqd,
    qdiffusion,
    qdit,
    repq,
    rtn,
    smoothquant,
    svdquant,
)
from ptq4dit.methods.method import Job, Method
from ptq4dit.trajectories import Trajectories

_RECIPES = (rtn, ptq4dm, smoothquant, qdiffusion, ptqd, repq, qdit, gptq, hadamard, svdquant, dynamic, ptq4dit, ours)
METHODS: dict[str, Method] = {recipe.METHOD.name: recipe.METHOD for recipe in _RECIPES}
"""Name -> method, in the order in which tables show them."""
assert tuple(METHODS) == METHOD_NAMES


def quantize(
    dit: Dit,
    stats: Calibration,
    config: QuantConfig | None = None,
    *,
    data: Trajectories | None = None,
    progress: Callable[..., None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Dit:
    """Quantize a float DiT by the method that the config names.

    Deviation: by default the four linears of every block are rounded; the patch embedding, conditioning, modulation,
    final layer and the attention's own products, which the released code rounds as well, are switches of the config.

    Args:
        dit: a float bundle, left as it is.
        stats: its calibration.
        config: method, bits, ranges and the rest; None for PTQ4DiT at W8A8 without reconstruction.
        data: inputs of the model for reconstruction; sampled when needed if not given.
        progress: told about every step of reconstruction.
        cancelled: asked between pieces of work; once it says True, `observe.Cancelled` is raised.
        folder: where reconstruction keeps its state after each block, to go on after a stop.

    Returns:
        The bundle with a quantized ``DiTTransformer2DModel``.

    Raises:
        ValueError: if the model is quantized already, ``stats`` belong to another one, a weight is not finite, or the
            method does not know what the config asks for.
    """
    config = config or QuantConfig()
    require_finite(dit.transformer)
    stats.require_model(dit.transformer)
    method = METHODS[config.method]
    job = Job(
        dit=dit,
        stats=stats,
        config=method.prepared(config),
        given_data=data,
        progress=progress,
        cancelled=cancelled,
        folder=None if folder is None else Path(folder),
    )
    model = method.run(job)
    return model if job.config.backend == "simulated" else with_backend(model, job.config.backend)
