"""The state of reconstructed blocks on disk, so that a run that was stopped goes on after its last whole block."""

import dataclasses
import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from ptq4dit.calibration.trajectories import Trajectories
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.model.fingerprint import fingerprint
from ptq4dit.model.streamed import stored_value
from ptq4dit.quantized.record import QuantRecord
from ptq4dit.reconstruction.arguments import tensors_of
from ptq4dit.reconstruction.blocks import BlockPair
from ptq4dit.sharing import shared, team
from ptq4dit.storage.tensors import read_tensors, write_tensors
from ptq4dit.storage.whole_file import require_place

_FORMAT = "ptq4dit-reconstruction-4"


class State:
    """One file a block, named by a fingerprint of everything that the result depends on."""

    def __init__(
        self, folder: Path | None, exact: nn.Module, model: nn.Module, data: Trajectories, config: ReconstructionConfig
    ) -> None:
        """Make the folder, if there is to be one; refuse one that cannot be written.

        Args:
            folder: None to keep nothing.
            exact: the float transformer.
            model: the quantized transformer before reconstruction.
            data: what it learns from.
            config: how.
        """
        self.folder = folder
        if folder is not None:
            require_place(folder)
            self.identity = _identity(exact, model, data, config)

    def load(self, index: int, pair: BlockPair) -> bool:
        """Put a block's stored state into it; False if there is none.

        Raises:
            ValueError: if the file is damaged, or holds another block's state.
        """
        path = self._path(index)
        there = shared([index], lambda _: [path is not None and path.is_file()])
        if path is None or not all(found for (found,) in there):
            return False
        tensors, _ = read_tensors(path, _FORMAT, "reconstruction")
        wanted = _tensors(pair)
        alike = set(tensors) == set(wanted) and all(
            value.shape == tensors[name].shape and value.dtype == tensors[name].dtype for name, value in wanted.items()
        )
        if not alike or not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
            raise ValueError(
                f"Expected the state of block {index} in {str(path)!r}, got another or a damaged one. Remove the file: "
                "the block is reconstructed again."
            )
        for name, linear in pair.layers.items():
            linear.load_state_dict({key: tensors[f"{name}/{key}"] for key in linear.state_dict()})
        return True

    def save(self, index: int, pair: BlockPair) -> None:
        """Store a block's state, whole or not at all; of processes that share the work the first one does."""
        path = self._path(index)
        if path is not None and team().first:
            write_tensors(path, _tensors(pair), {}, _FORMAT)

    def _path(self, index: int) -> Path | None:
        return None if self.folder is None else self.folder / f"{self.identity}-block-{index:03d}.safetensors"


def _tensors(pair: BlockPair) -> dict[str, Tensor]:
    return {f"{n}/{k}": v for n, linear in pair.layers.items() for k, v in linear.state_dict().items()}


def _identity(exact: nn.Module, model: nn.Module, data: Trajectories, config: ReconstructionConfig) -> str:
    digest = hashlib.blake2b(digest_size=8)
    digest.update(_FORMAT.encode() + json.dumps(dataclasses.asdict(config), sort_keys=True).encode())
    if isinstance(record := getattr(model, "ptq4dit_record", None), QuantRecord):
        digest.update(record.config.to_json().encode())
    digest.update(fingerprint(exact).encode())
    everything = data.call(slice(None))
    for tensor in (data.images, *tensors_of((everything.args, everything.kwargs))):
        digest.update(_bytes(tensor))
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + _bytes(stored_value(model, name, tensor)))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    tensor = tensor.detach().cpu().contiguous()
    return (tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor).numpy().tobytes()
