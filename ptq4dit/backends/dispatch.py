"""Which backend runs a model: the one place where a backend is chosen by name."""

import dataclasses
import importlib
import os
from dataclasses import dataclass
from typing import Any

from ptq4dit.backends.integer import IntegerTransformer
from ptq4dit.config import Backend
from ptq4dit.dit import Dit

_INTEGER = {"cpu": "ptq4dit.backends.openvino", "cuda": "ptq4dit.backends.cuda"}
"""Device -> module whose ``build(twin, options)`` gives an `IntegerTransformer`."""


@dataclass(frozen=True, kw_only=True)
class IntegerOptions:
    """How the integer backend runs; the numbers that it computes with are the model's own.

    Attributes:
        threads: CPU threads; None for all cores.
        precision: ``"f32"`` or ``"bf16"`` for what is not an integer product (attention, norms, GELU).
        cache: folder of compiled models; None for ``PTQ4DIT_CACHE``, else the user's cache folder.
        cache_bytes: the least recently used compiled models go once the folder is larger.
    """

    threads: int | None = None
    precision: str = "f32"
    cache: str | os.PathLike[str] | None = None
    cache_bytes: int = 4 * 2**30


def with_backend(model: Dit, backend: Backend, options: IntegerOptions | None = None) -> Dit:
    """The same quantized model run by another backend: the same integers, scales and zero points.

    Args:
        model: a quantized bundle, on the device that is to run it.
        backend: ``"simulated"`` or ``"integer"``.
        options: for ``"integer"``.

    Returns:
        The bundle with another ``.transformer``; for ``"integer"`` an `IntegerTransformer`.

    Raises:
        ValueError: if the model is not quantized, or has a layer that the backend cannot take; the message names it.
    """
    record = getattr(model.transformer, "ptq4dit_record", None)
    if record is None:
        raise ValueError("Expected a quantized model, got a float one. Use ptq4dit.quantize(...) first.")
    transformer: Any = model.transformer
    twin = transformer.twin if isinstance(transformer, IntegerTransformer) else transformer
    chosen = dataclasses.replace(record, config=dataclasses.replace(record.config, backend=backend))
    if backend == "simulated":
        twin.ptq4dit_record = chosen
        return model.with_transformer(twin)
    module = importlib.import_module(_INTEGER[model.device.type])
    result = module.build(twin, options or IntegerOptions())
    result.ptq4dit_record = chosen
    return model.with_transformer(result)
