"""Make diffusers know this package's quantized models, without importing it: it is added to as it loads."""

import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

from ptq4dit.config.diffusers import DiffusersConfig, QuantizationMethod

_TABLES = "diffusers.quantizers.auto"
_PIPELINE = "PTQ4DiTPipeline"


def register() -> None:
    """Add the quantizer to diffusers' tables, and the pipeline to its names: now, or once they are there."""
    if _TABLES in sys.modules:
        _add(sys.modules[_TABLES])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def quantizer(config: DiffusersConfig, **options: Any) -> Any:
    """The quantizer for a config: that of quantized files, or one that quantizes on loading."""
    from ptq4dit.checkpoint.quantizer import PackedQuantizer
    from ptq4dit.methods.on_load import OnLoadQuantizer

    kind = PackedQuantizer if options.get("pre_quantized", True) else OnLoadQuantizer
    return kind(config, **options)


def _add(tables: ModuleType) -> None:
    name = str(QuantizationMethod.PTQ4DIT)
    tables.AUTO_QUANTIZATION_CONFIG_MAPPING[name] = DiffusersConfig
    tables.AUTO_QUANTIZER_MAPPING[name] = quantizer
    diffusers = sys.modules["diffusers"]
    if not hasattr(type(diffusers), _PIPELINE):
        diffusers.__class__ = type("WithPipeline", (type(diffusers),), {_PIPELINE: property(_pipeline)})


def _pipeline(_: ModuleType) -> type[Any]:
    """The pipeline that ``model_index.json`` of a quantized DiT names; diffusers looks such names up on itself."""
    from ptq4dit.model.stock_pipeline import PTQ4DiTPipeline

    return PTQ4DiTPipeline


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module, as others do, and adds to it once it has run."""

    def find_spec(
        self, name: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _TABLES:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, own: Any) -> None:
        self._own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._own.exec_module(module)
        _add(module)
