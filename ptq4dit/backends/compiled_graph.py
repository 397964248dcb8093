"""A compiled graph in a file, mapped into memory and run."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import openvino
import torch
from jaxtyping import Float
from torch import Tensor

from ptq4dit.backends.openvino_cache import CompiledCache, payload_bytes
from ptq4dit.model.forward import Modulation
from ptq4dit.storage.mapped_file import map_file, read_once

Graph = TypeVar("Graph", bound="CompiledGraph")


class CompiledGraph:
    """A graph that OpenVINO has compiled; calls from several threads wait for each other.

    The file stays mapped: OpenVINO packs the weights for its kernels when it first runs with inputs of some sizes, and
    the mapped originals need not stay in memory.
    """

    def __init__(self, path: Path, properties: dict[str, Any]) -> None:
        self.path, self.properties = path, properties
        self._lock, self._settled = Lock(), set[Any]()
        self._file = map_file(path, payload_bytes(path))
        blob = openvino.Tensor(self._file, shared_memory=True)
        with read_once(self._file):
            self.compiled = openvino.Core().import_model(blob, "CPU", properties)
        self._request = self.compiled.create_infer_request()

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs for these inputs, in the graph's order; floats in float32."""
        given = [_shared(tensor) for tensor in inputs]
        sizes = tuple(tensor.shape for tensor in inputs)
        with self._lock:
            for index, tensor in enumerate(given):
                self._request.set_input_tensor(index, tensor)
            with nullcontext() if sizes in self._settled else read_once(self._file):
                self._request.infer(share_outputs=True)
            outputs = range(len(self.compiled.outputs))
            results = [self._request.get_output_tensor(index).data.copy() for index in outputs]
            self._settled.add(sizes)
        return [torch.from_numpy(result) for result in results]

    def node_ms(self) -> dict[str, float]:
        """Milliseconds of each node, the mean of all calls so far; for graphs with the property ``PERF_COUNT``."""
        with self._lock:
            counted = self._request.get_profiling_info()
        return {node.node_name: 1e3 * node.real_time.total_seconds() for node in counted}


class OpenVinoStep(CompiledGraph):
    """The compiled step of a DiT, called like `forward.predict`."""

    def __init__(self, path: Path, properties: dict[str, Any]) -> None:
        super().__init__(path, properties)
        rows, *sizes = self.compiled.input(0).partial_shape
        self._rows = int(rows.get_length()) if rows.is_static else None
        self._sizes = tuple(int(size.get_length()) for size in sizes)

    def __call__(
        self, latents: Float[Tensor, "row channel height width"], modulation: Modulation
    ) -> Float[Tensor, "row out_channel height width"]:
        """The output for these latents.

        Raises:
            ValueError: for latents of another shape, or another number of rows, than the graph was compiled for.
        """
        if tuple(latents.shape[1:]) != self._sizes:
            raise ValueError(f"Expected latents of shape (n, *{self._sizes}), got {tuple(latents.shape)}.")
        if self._rows not in (None, len(latents)):
            raise ValueError(
                f"Expected {self._rows} rows, as the integer backend was asked to compile for, got {len(latents)}. "
                "Choose IntegerOptions(batch=None) for any number."
            )
        blocks = modulation.blocks.permute(1, 2, 0, 3).flatten(0, 1)
        (result,) = self.run((latents, blocks, modulation.final.transpose(0, 1)))
        return result.to(latents.dtype)


def ready(
    kind: type[Graph], cache: CompiledCache, key: str, properties: dict[str, Any], write: Callable[[Path], None]
) -> Graph:
    """The graph from the cache, compiled where there is none or one that this runtime cannot read.

    Args:
        kind: what to make of the file.
        cache: where it is, or will be.
        key: of the graph.
        properties: with which it is compiled and loaded.
        write: compiles it into a file.
    """
    path = cache.find(key)
    if path is not None:
        try:
            return kind(path, properties)
        except RuntimeError:  # whole, but another build of the runtime wrote it
            path.unlink(missing_ok=True)
    return kind(cache.store(key, write), properties)


def _shared(tensor: Tensor) -> openvino.Tensor:
    """A torch tensor of OpenVINO, floats as float32, without a copy where it is that already."""
    plain = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
    return openvino.Tensor(plain.contiguous().numpy(), shared_memory=True)
