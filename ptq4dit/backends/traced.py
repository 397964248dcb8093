"""Any transformer on integers: compiled from a trace of its first call, proven on it, and kept."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

import openvino
import torch
from diffusers.utils import BaseOutput
from torch import Tensor
from torch.utils import _pytree as tree

from ptq4dit.backends.call import TakenCall, named, take_apart
from ptq4dit.backends.compiled_graph import CompiledGraph, ready
from ptq4dit.backends.dependence import Dependence
from ptq4dit.backends.mapped_weights import constants_in
from ptq4dit.backends.openvino_attention import require_integer_attention
from ptq4dit.backends.openvino_cache import CompiledCache, content_key, payload_bytes
from ptq4dit.backends.products import linear_precisions, require_integer_products
from ptq4dit.backends.tracing import trace_graph
from ptq4dit.quantized.linear import QuantizedLinear

KEPT = 8
"""Compiled graphs in memory; the one that was not used for longest goes first."""
_STEPS = ("timestep", "timesteps", "t", "sigma")


@dataclass(frozen=True, kw_only=True)
class Form:
    """What is known of all calls of one structure.

    Attributes:
        constants: leaves whose values decide something in the forward: constants of a graph.
        output: how the tensors that a graph gives are put together.
    """

    constants: tuple[int, ...]
    output: Any


@dataclass(kw_only=True, eq=False)
class _Kept:
    """A compiled graph, and the sizes of inputs for which it is known to be right, or wrong."""

    graph: CompiledGraph
    inputs: tuple[int, ...]
    right: set[Any] = field(default_factory=set)
    wrong: set[Any] = field(default_factory=set)


class TracedStep:
    """Called as the simulated twin is; compiles what it does not have yet.

    The first call of every structure is traced; a graph is tried on other sizes of inputs, and where the trace does
    not hold for them another graph is made. Each graph's first output for each size is compared with the twin's.
    """

    def __init__(
        self,
        twin: Any,
        cache: CompiledCache,
        properties: dict[str, Any],
        content: Callable[[], str],
        rows: int | None = None,
        native: bool | None = None,
    ) -> None:
        """Nothing is compiled yet.

        Args:
            twin: the simulated model.
            cache: of compiled graphs.
            properties: with which they are compiled and loaded.
            content: names the twin with its weights and settings; asked once, when it is needed.
            rows: of every call, for which graphs are compiled; None for any number.
            native: as `trace_graph` is given it.
        """
        self._twin, self._cache, self._properties, self._content, self._rows = twin, cache, properties, content, rows
        self._native = native
        self._name: str | None = None
        self._lock = RLock()
        self._forms: dict[str, Form] = {}
        self._graphs: OrderedDict[str, _Kept] = OrderedDict()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The stock output.

        Raises:
            ValueError: if the call cannot be compiled, a layer in it does not multiply integers, or what came out is
                not the twin's output.
        """
        call, tupled = self._taken(args, kwargs)
        with self._lock:
            form = self._form(call)
            outputs = self._run(call, form)
        dtype = next(self._twin.parameters()).dtype
        outputs = [tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in outputs]
        result = tree.tree_unflatten(outputs, form.output)
        return result.to_tuple() if tupled and isinstance(result, BaseOutput) else result

    @property
    def graphs(self) -> list[CompiledGraph]:
        """Those in memory, the one used last at the end."""
        return [kept.graph for kept in self._graphs.values()]

    def _taken(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[TakenCall, bool]:
        """The call with ``return_dict=True``, and whether a tuple was asked for instead."""
        call = take_apart(self._twin.forward, args, kwargs)
        tupled = False
        if "return_dict" in call.names:
            index = call.names.index("return_dict")
            tupled = not call.leaves[index]
            leaves = [True if i == index else leaf for i, leaf in enumerate(call.leaves)]
            call = TakenCall(signature=call.signature, leaves=tuple(leaves), names=call.names, spec=call.spec)
        if self._rows is not None and call.tensors and len(call.leaves[call.tensors[0]]) != self._rows:
            raise ValueError(
                f"Expected {self._rows} rows, as the integer backend was asked to compile for, got "
                f"{len(call.leaves[call.tensors[0]])}. Choose IntegerOptions(batch=None) for any number."
            )
        return call, tupled

    def _form(self, call: TakenCall) -> Form:
        """What is known of the call's structure: from memory, from the cache, or from the twin."""
        structure = call.structure
        if structure not in self._forms:
            key = self._key("form", structure)
            path = self._cache.find(key)
            if path is None:
                path = self._cache.store(
                    key, lambda file: file.write_text(_to_json(self._watched(call)), encoding="utf-8")
                )
            self._forms[structure] = _from_json(path.read_bytes()[: payload_bytes(path)])
        return self._forms[structure]

    def _watched(self, call: TakenCall) -> Form:
        """Run the twin and see which inputs it reads."""
        given = {index: call.leaves[index] for index in call.tensors}
        with Dependence(given) as seen:
            output = self._by_twin(call)
        steps = [index for index in seen.read if index == call.tensors[0] or call.names[index] in _STEPS]
        if steps:
            raise ValueError(
                f"Expected a forward that takes its inputs as they come, got one that reads the values of "
                f"{named(call, steps)} in Python: every step would need a graph of its own. Choose "
                'backend="simulated".'
            )
        leaves, spec = tree.tree_flatten(output)
        if not all(isinstance(leaf, Tensor) for leaf in leaves):
            raise ValueError(
                f"Expected an output of tensors, got {[type(leaf).__name__ for leaf in leaves]}. Choose "
                'backend="simulated".'
            )
        return Form(constants=tuple(sorted(seen.read)), output=spec)

    def _run(self, call: TakenCall, form: Form) -> list[Tensor]:
        inputs = tuple(index for index in call.tensors if index not in form.constants)
        common = f"{call.structure} {_digest(call, form.constants)}"
        shapes = call.shapes
        for key, kept in list(self._graphs.items()):
            if key.startswith(common) and shapes in kept.right:
                self._graphs.move_to_end(key)
                return kept.graph.run([call.leaves[index] for index in inputs])
        for key, kept in list(self._graphs.items()):
            if key.startswith(common) and self._rows is None and shapes not in kept.wrong:
                outputs = self._tried(kept, call)
                if outputs is not None:
                    self._graphs.move_to_end(key)
                    return outputs
        return self._compiled(call, inputs, f"{common} {shapes}")

    def _tried(self, kept: _Kept, call: TakenCall) -> list[Tensor] | None:
        """The output of a graph for sizes that it was not traced for, if that is the twin's."""
        try:
            outputs = kept.graph.run([call.leaves[index] for index in kept.inputs])
        except RuntimeError:  # the trace holds sizes that do not fit together
            kept.wrong.add(call.shapes)
            return None
        fits = self._difference(call, outputs) <= self._bound()
        (kept.right if fits else kept.wrong).add(call.shapes)
        return outputs if fits else None

    def _compiled(self, call: TakenCall, inputs: tuple[int, ...], name: str) -> list[Tensor]:
        """A graph traced from this call, or found in the cache, and its output."""
        key, stored = self._key(f"graph for {self._rows} rows", name), False

        def write(file: Path) -> None:
            nonlocal stored
            stored = True
            self._write(call, inputs, file)

        kept = _Kept(graph=ready(CompiledGraph, self._cache, key, self._properties, write), inputs=inputs)
        outputs = kept.graph.run([call.leaves[index] for index in inputs])
        if stored:
            difference = self._difference(call, outputs)
            if not difference <= self._bound():
                self._cache.path(key).unlink(missing_ok=True)
                raise ValueError(
                    f"Expected the integer graph of a {type(self._twin).__name__} to give the simulated model's "
                    f"output, got one that is {difference:.2g} away (relative). Nothing was kept; choose "
                    'backend="simulated".'
                )
        kept.right.add(call.shapes)
        self._graphs[name] = kept
        while len(self._graphs) > KEPT:
            self._graphs.popitem(last=False)
        return outputs

    def _write(self, call: TakenCall, inputs: tuple[int, ...], file: Path) -> None:
        with constants_in(file.with_name("constants"), self._twin):
            graph, wanted, attentions = trace_graph(self._twin, call, inputs, self._native)
        if self._rows is not None:
            ports = zip(graph.inputs, inputs, strict=True)
            graph.reshape({port: list(call.leaves[index].shape) for port, index in ports})
        compiled = openvino.Core().compile_model(graph, "CPU", self._properties)
        require_integer_products(linear_precisions(compiled), wanted)
        require_integer_attention(compiled, attentions)
        file.write_bytes(compiled.export_model().getbuffer())

    def _key(self, kind: str, name: str) -> str:
        if self._name is None:
            self._name = self._content()
        return content_key([kind.encode(), self._name.encode(), name.encode()])

    @torch.no_grad()
    def _by_twin(self, call: TakenCall) -> Any:
        args, kwargs = call.arguments({})
        return self._twin(*args, **kwargs)

    def _difference(self, call: TakenCall, outputs: Sequence[Tensor]) -> float:
        """The largest relative difference of an output from the twin's; infinite where even sizes differ."""
        right = [leaf.double() for leaf in tree.tree_leaves(self._by_twin(call))]
        if [tensor.shape for tensor in right] != [tensor.shape for tensor in outputs]:
            return float("inf")
        pairs = zip(outputs, right, strict=True)
        return max(float((mine.double() - its).norm() / its.norm().clamp(min=1e-30)) for mine, its in pairs)

    def _bound(self) -> float:
        """What flips of single roundings stay below, and a graph of something else exceeds; steps grow as bits go."""
        linears = [module for module in self._twin.modules() if isinstance(module, QuantizedLinear)]
        fewest = min((linear.config.activation_bits for linear in linears), default=8)
        return min(0.5, 0.05 * 2 ** (8 - fewest))


def _digest(call: TakenCall, constants: Sequence[int]) -> str:
    """Names the values of some tensors of a call."""
    digest = hashlib.sha256()
    for index in constants:
        tensor = call.leaves[index].detach().contiguous()
        digest.update(f"{index} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _to_json(form: Form) -> str:
    return json.dumps({"constants": form.constants, "output": tree.treespec_dumps(form.output)})


def _from_json(text: bytes) -> Form:
    content = json.loads(text)
    return Form(constants=tuple(content["constants"]), output=tree.treespec_loads(content["output"]))
