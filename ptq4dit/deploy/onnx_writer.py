"""A growing ONNX graph: nodes and constants, each one named after what comes out of it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from jaxtyping import UInt8
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from ptq4dit.numerics.packing import pack_int4

OPSET, IR_VERSION = 21, 10
_LARGEST_FILE = 1_500_000_000
"""Bytes above which weights go to a file beside the graph: protobuf's own limit is 2 GB."""


Port = tuple[int, list[Any]]
"""Element type and shape of an input or output."""


class OnnxWriter:
    """Collects a graph; `save` checks and writes it."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._names: set[str] = set()
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def add(self, operation: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """One node with one output; returns the output's name."""
        return self.add_many(operation, *inputs, outputs=1, name=name, **attributes)[0]

    def add_many(
        self, operation: str, *inputs: str, outputs: int, name: str | None = None, **attributes: Any
    ) -> list[str]:
        """One node with several outputs; returns their names."""
        base = name or operation.lower()
        if name is None or name in self._names:
            base = f"{base}_{len(self.nodes)}"
        self._names.add(base)
        names = [base] if outputs == 1 else [f"{base}.{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operation, list(inputs), names, name=base, **attributes))
        return names

    def constant(self, values: NDArray[Any] | np.generic, name: str | None = None) -> str:
        """A constant; small equal ones are one."""
        values = np.asarray(values, order="C")
        key = (str(values.dtype), values.shape, values.tobytes() if values.size <= 64 else b"")
        if values.size <= 64 and key in self._shared:
            return self._shared[key]
        name = f"{name or 'constant'}_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(values, name))
        if values.size <= 64:
            self._shared[key] = name
        return name

    def uint4(self, values: UInt8[Tensor, "row column"], name: str) -> str:
        """A constant of 4-bit integers, two to a byte."""
        flat = pack_int4(values.reshape(1, -1))
        name = f"{name}_{len(self.initializers)}"
        dims = list(values.shape)
        self.initializers.append(
            TensorProto(name=name, data_type=TensorProto.UINT4, dims=dims, raw_data=flat.numpy().tobytes())
        )
        return name

    def save(self, file: Path, inputs: dict[str, Port], outputs: dict[str, Port]) -> None:
        """Check the graph and write it, its weights beside it when it is too large for one file.

        Args:
            file: ``.onnx``.
            inputs, outputs: name -> element type and shape.
        """
        given, made = (
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in ports.items()]
            for ports in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, "ptq4dit", given, made, self.initializers)
        imports = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION, producer_name="ptq4dit")
        large = sum(len(tensor.raw_data) for tensor in self.initializers) > _LARGEST_FILE
        onnx.save_model(model, str(file), save_as_external_data=large, location=f"{file.name}.data")
        onnx.checker.check_model(str(file))
