"""Which backend runs a model: the one place where a backend is chosen by name."""

import dataclasses
import importlib
from typing import Any

from torch import nn

from ptq4dit.backends.options import IntegerOptions
from ptq4dit.backends.shared_copies import full_copy
from ptq4dit.backends.transformer import IntegerTransformer
from ptq4dit.config.quantization import require_backend

_INTEGER = {"cpu": "ptq4dit.backends.openvino", "cuda": "ptq4dit.backends.cuda"}
"""Device -> module whose ``build(twin, options)`` gives an `IntegerTransformer`."""


def with_backend(model: Any, backend: str, options: IntegerOptions | None = None) -> Any:
    """The same quantized model run by another backend: the same integers, scales and zero points.

    Args:
        model: a quantized bundle, or a quantized transformer alone, on the device that is to run it.
        backend: ``"simulated"`` or ``"integer"``.
        options: for ``"integer"``.

    Returns:
        The bundle with another ``.transformer``, or that transformer; for ``"integer"`` an `IntegerTransformer`.

    Raises:
        ValueError: if the model is not quantized, or has a layer that the backend cannot take; the message names it.
    """
    require_backend(backend)
    if not isinstance(model, nn.Module):
        return model.with_transformer(with_backend(model.transformer, backend, options))
    record = getattr(model, "ptq4dit_record", None)
    if record is None:
        raise ValueError("Expected a quantized model, got a float one. Use ptq4dit.quantize(...) first.")
    twin = model.twin if isinstance(model, IntegerTransformer) else model
    chosen = dataclasses.replace(record, config=dataclasses.replace(record.config, backend=backend))
    if backend == "simulated":
        result = full_copy(twin)
        result.ptq4dit_record = chosen
        return result
    module = importlib.import_module(_INTEGER[next(twin.parameters()).device.type])
    result = module.build(twin, options or IntegerOptions())
    result.ptq4dit_record = chosen
    return result
