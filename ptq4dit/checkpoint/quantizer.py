"""diffusers' quantizer for transformers that this package quantized: the hooks that its loader and saver call."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.quantizers.base import DiffusersQuantizer
from torch import Tensor, nn

from ptq4dit.checkpoint.file_facts import Files, read_files, tell_facts, to_metadata, told
from ptq4dit.checkpoint.packed_state import INTEGERS, pack, packed_names, unpack
from ptq4dit.checkpoint.rebuild import complete, quantized_linears, rebuild
from ptq4dit.config.diffusers import DiffusersConfig
from ptq4dit.config.record import QuantRecord
from ptq4dit.model.stock_pipeline import suit_stock_pipeline
from ptq4dit.storage.mapped_file import map_file, tensor_of
from ptq4dit.storage.untrusted import read_positions

_SMALL = 2**24
"""Bytes up to which a tensor is copied, so that the file that it came from need not stay mapped."""
_asked = threading.local()


@contextmanager
def integers_only() -> Iterator[None]:
    """A ``with`` block in which this thread reads quantized transformers as an integer backend needs them.

    Their integers stay in the file, mapped, as they are stored (`QuantizedLinear.integers`), and no float weight is
    made of them.
    """
    before = getattr(_asked, "lean", False)
    _asked.lean = True
    try:
        yield
    finally:
        _asked.lean = before


class PackedQuantizer(DiffusersQuantizer):
    """Reads and writes quantized transformers inside diffusers' ``from_pretrained`` and ``save_pretrained``.

    The files are read as they are: types come from them, so that the loader casts nothing. All integers, scales and
    types are those of the model that was saved, bit for bit.
    """

    quantization_config: DiffusersConfig

    def __init__(self, quantization_config: DiffusersConfig, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        self._wanted: torch.dtype | None = None
        self._files: Files | None = None
        self._expected: Mapping[str, Tensor] = {}
        self._share = 1.0
        self._lean = getattr(_asked, "lean", False)
        self._paths: Sequence[str] = ()

    @property
    def record(self) -> QuantRecord:
        """What made the model.

        Raises:
            ValueError: if it is not quantized yet.
        """
        if self.quantization_config.stored is None:
            raise ValueError("Expected a quantized transformer, got a config that only asks for one.")
        return self.quantization_config.stored

    def update_torch_dtype(self, torch_dtype: torch.dtype | None) -> torch.dtype | None:
        """The wanted type is kept here: the loader would cast scales, too."""
        self._wanted = torch_dtype
        return None

    def adjust_max_memory(self, max_memory: dict[str, Any]) -> dict[str, Any]:
        """Leave room for the float weights that the simulated product derives from the integers."""
        return {
            place: int(limit * self._share) if isinstance(limit, int) else limit for place, limit in max_memory.items()
        }

    def maybe_update_loaded_keys(self, loaded_keys: list[str], checkpoint_files: list[str]) -> list[str]:
        """Names of all tensors, of repeated ones too; the files' headers are read here."""
        self._files, self._paths = read_files(checkpoint_files), checkpoint_files
        return [*loaded_keys, *self._files.facts.aliases]

    def _process_model_before_weight_loading(self, model: nn.Module, **_: Any) -> None:
        assert self._files is not None
        rebuild(model, self.record, self._files, self._wanted)
        self._expected = model.state_dict(keep_vars=True)
        held = sum(tensor.numel() * tensor.element_size() for tensor in self._expected.values())
        derived = sum(linear.weight_q.numel() * linear.weight.element_size() for linear in _rounded(model))
        self._share = held / max(1, held + derived)

    def maybe_update_state_dict(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """The tensors of one file, unpacked, with their copies; for `integers_only` integers as they are stored."""
        assert self._files is not None
        stored = self._mapped(state_dict) if self._lean else state_dict
        packed = set() if self._lean else packed_names(self.record)
        return unpack(stored, self._files.facts.aliases, self._expected, packed)

    def check_if_quantized_param(self, _model: Any, _value: Any, param_name: str, *_: Any, **__: Any) -> bool:
        """Whether a tensor is put in its place here, as it has another shape than it stands for."""
        return self._lean and param_name in packed_names(self.record)

    def check_quantized_param_shape(self, param_name: str, *_: Any) -> bool:
        """Seen before anything was read (`rebuild`)."""
        return bool(param_name)

    def create_quantized_param(self, model: Any, param_value: Tensor, param_name: str, *_: Any, **__: Any) -> None:
        """Put two integers to a byte in their place."""
        model.get_submodule(param_name.removesuffix(INTEGERS)).weight_q = param_value

    def _mapped(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        result = {
            name: tensor.clone() if tensor.nbytes <= _SMALL and not name.endswith(INTEGERS) else tensor
            for name, tensor in state.items()
        }
        for path in self._paths:
            positions = read_positions(path)
            here = [name for name in state if name.endswith(INTEGERS) and name in positions]
            file = map_file(path) if here else None
            for name in here:
                assert file is not None
                result[name] = tensor_of(file, positions[name], tuple(state[name].shape))
        return result

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> None:
        self._files, self._paths, self._expected, self._wanted = None, (), {}, None
        complete(model, self.record, lean=self._lean)
        model.is_quantized = False  # its float parts may be cast, as those of a model in memory
        tell_facts(model)
        suit_stock_pipeline(model)

    def get_state_dict_and_metadata(
        self, state_dict: dict[str, Any], safe_serialization: bool = False
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What `save_pretrained` writes: packed tensors, and the facts beside them.

        Raises:
            ValueError: if something other than safetensors is to be written.
        """
        if not safe_serialization:
            raise ValueError("Expected safe_serialization=True, got False: quantized models are safetensors only.")
        stored, aliases = pack(state_dict, packed_names(self.record))
        return stored, to_metadata(told(state_dict), aliases)

    @property
    def is_serializable(self) -> bool:
        """It can be saved."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Integers have no gradients."""
        return False

    @property
    def is_compileable(self) -> bool:
        """``torch.compile`` may be used."""
        return True


def as_diffusers(transformer: Any, record: QuantRecord) -> None:
    """Make a quantized transformer one that diffusers knows to be quantized: `save_pretrained` writes it packed.

    Args:
        transformer: what `ptq4dit.quantized.convert` made; only attributes are added. One that is no diffusers model
            stays as it is.
        record: what made it.
    """
    if not isinstance(transformer, ConfigMixin):
        return
    config = DiffusersConfig(stored=record)
    transformer.hf_quantizer = PackedQuantizer(config, pre_quantized=True)
    transformer.register_to_config(quantization_config=config)
    tell_facts(transformer)
    suit_stock_pipeline(transformer)


def _rounded(model: nn.Module) -> list[Any]:
    return [linear for linear in quantized_linears(model).values() if hasattr(linear, "weight_q")]
