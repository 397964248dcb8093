"""A quantized transformer that keeps its integers only: the simulated twin beside an integer backend."""

import copy
from typing import Any

from diffusers import DiTTransformer2DModel
from torch import Tensor, nn

from ptq4dit.model.forward import equal_embedders
from ptq4dit.quantized.linear import QuantizedLinear


def lean_copy(transformer: Any) -> Any:
    """A copy that shares all stored tensors and has none of the derived ones.

    Quantized linears expand their float weight whenever they are called. Equal embedders are one in memory. Nothing
    is computed differently; the transformer itself stays as it is.
    """
    result = shallow_copy(transformer)
    for module in result.modules():
        if isinstance(module, QuantizedLinear):
            module.release()
    if isinstance(result, DiTTransformer2DModel) and equal_embedders(result):
        _share_embedders(result)
    return result


def full_copy(transformer: Any) -> Any:
    """A copy of a lean transformer that shares all stored tensors and has the derived ones again."""
    result = shallow_copy(transformer)
    for module in result.modules():
        if isinstance(module, QuantizedLinear):
            module.restore()
    return result


def shallow_copy(transformer: Any) -> Any:
    """New modules, hooks included, around the same tensors."""
    tensors: list[Tensor] = [*transformer.parameters(), *transformer.buffers()]
    return copy.deepcopy(transformer, {id(tensor): tensor for tensor in tensors})


def resident_bytes(module: nn.Module) -> int:
    """Bytes of a module's tensors, shared memory counted once."""
    storages = [tensor.untyped_storage() for tensor in (*module.parameters(), *module.buffers())]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _share_embedders(transformer: Any) -> None:
    first, *others = (block.norm1.emb for block in transformer.transformer_blocks)
    modules = dict(first.named_modules())
    for embedder in others:
        for name, module in embedder.named_modules():
            for key in (*module._parameters, *module._buffers):
                setattr(module, key, getattr(modules[name], key))
