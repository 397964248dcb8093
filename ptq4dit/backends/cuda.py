"""Integer execution on CUDA: int8 matrix products by ``torch._int_mm``, exact zero points, a float epilogue.

Quantized linears of any transformer are replaced in a copy; attention, norms and all else stay in the twin's type.
Shapes that the kernel refuses are padded, never sent elsewhere.
"""

import copy
import dataclasses
import functools
from typing import Any

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor, nn

from ptq4dit.backends.dit_layers import is_published_dit
from ptq4dit.backends.integer_linear import IntegerLinear, integer_linear_of
from ptq4dit.backends.options import IntegerOptions
from ptq4dit.backends.transformer import IntegerDit, IntegerTransformer, as_integer
from ptq4dit.model.forward import predict
from ptq4dit.numerics.affine import AffineSpec, affine_from_range, quantize, value_range
from ptq4dit.quantized.activation import activation_spec
from ptq4dit.quantized.linear import QuantizedLinear, QuantizedPatchEmbed
from ptq4dit.quantized.timestep_groups import TimestepClock

MIN_ROWS = 17
"""``torch._int_mm`` on CUDA wants more than 16 rows."""
MULTIPLE = 8
"""... and columns, of both operands, in multiples of 8."""


def build(twin: Any, options: IntegerOptions | None = None) -> IntegerTransformer:
    """The model with its quantized layers on integers.

    Args:
        twin: a quantized transformer on a CUDA device.
        options: none of them concerns this backend; see `require_no_options`.

    Raises:
        ValueError: if there is no CUDA device, the model is not on one, a layer has no integer product, or an option
            is set.
    """
    device = next(twin.parameters()).device
    require_cuda(device)
    require_no_options(options or IntegerOptions())
    made = replace_linears(twin)
    runtime = f"torch {torch.__version__}, {torch.cuda.get_device_name(device)}"
    again = functools.partial(build, options=options)
    if is_published_dit(twin):
        return as_integer(IntegerDit, twin, step=functools.partial(predict, made), runtime=runtime, _build=again)
    return as_integer(IntegerTransformer, twin, step=made, runtime=runtime, _build=again)


def require_no_options(options: IntegerOptions) -> None:
    """Refuse what only the CPU backend does, by name, where it differs from the default."""
    for field in dataclasses.fields(options):
        given = getattr(options, field.name)
        if given != field.default and field.name not in ("cache", "cache_bytes"):
            raise ValueError(
                f"Expected IntegerOptions.{field.name} to be left at {field.default!r} on CUDA, where nothing is "
                f"compiled and the rest runs in the model's own type, got {given!r}."
            )


def require_cuda(device: torch.device) -> None:
    """Refuse a model that is not on a working CUDA device, saying what to choose instead."""
    if not torch.cuda.is_available():
        raise ValueError(
            "Expected a CUDA device for the CUDA integer backend, and torch finds none. Run on the CPU "
            '(device="cpu", backend="integer") or choose backend="simulated".'
        )
    if device.type != "cuda":
        raise ValueError(f'Expected the model on CUDA, got {device}. Load it with device="cuda".')
    if torch.cuda.get_device_capability(device) < (7, 5):
        raise ValueError(
            f"Expected a GPU with int8 tensor cores (compute capability 7.5), got {torch.cuda.get_device_name(device)}."
            ' Choose backend="simulated".'
        )


def replace_linears(transformer: nn.Module) -> nn.Module:
    """A copy whose `QuantizedLinear` are `Int8Linear`, on any device on which ``torch._int_mm`` runs.

    Raises:
        ValueError: naming the first layer that has no integer product; also if there is no quantized layer.
    """
    done: dict[int, Any] = {}
    for module in transformer.modules():
        if isinstance(module, TimestepClock):
            done[id(module)] = copy.deepcopy(module)
    layers = {name: module for name, module in transformer.named_modules() if isinstance(module, QuantizedLinear)}
    if not layers:
        raise ValueError("Expected a quantized model, got a float one. Use ptq4dit.quantize(...) first.")
    for name, layer in layers.items():
        described = integer_linear_of(name, [layer])
        patch = layer.patch if isinstance(layer, QuantizedPatchEmbed) else None
        made = Int8Linear(described, layer) if patch is None else Int8PatchEmbed(described, layer, patch)
        made.clock = [done.get(id(layer._clock[0]))]
        done[id(layer)] = made
    return copy.deepcopy(transformer, done)


class Int8Linear(nn.Module):
    """An `IntegerLinear` by products of signed bytes; sums in 32-bit integers, exact.

    The input's integers are shifted into a byte's range, ``q' = q_x - 128`` and ``z' = z_x - 128``:
    ``sum_k (q_x - z_x) (w - c) = int_mm(q', w) - z' sum_k (w - c) - c sum_k q'``. The last sum is made by the same
    product: a row of ones is appended to the weight when some c is not 0.
    """

    weight: Tensor
    row_sums: Tensor
    correction: Tensor | None
    weight_scale: Tensor
    bias: Tensor
    activation_scale: Tensor | None
    activation_zero_point: Tensor | None
    input_factor: Tensor | None
    low_rank_up: Tensor | None
    low_rank_down: Tensor | None

    def __init__(self, described: IntegerLinear, layer: QuantizedLinear) -> None:
        """From a quantized layer and what it is on integers; both are left as they are."""
        super().__init__()
        self.config, self.in_features, self.out_features = layer.config, layer.in_features, layer.out_features
        self.bits, self.rotation = described.activation_bits, described.rotation
        self.clock: list[TimestepClock | None] = [layer.clock]
        weight = described.weight
        correction = described.correction if bool(described.correction.any()) else None
        if correction is not None:
            weight = torch.cat([weight, torch.ones_like(weight[:1])])
        up, down = described.low_rank or (None, None)
        buffers = {
            "weight": padded(weight, MULTIPLE, MULTIPLE),
            "row_sums": described.row_sums.int(),
            "correction": None if correction is None else correction.int(),
            "weight_scale": described.weight_scale,
            "bias": described.bias,
            "activation_scale": described.activation_scale,
            "activation_zero_point": described.activation_zero_point,
            "input_factor": described.input_factor,
            "low_rank_up": up,
            "low_rank_down": down,
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor)

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """``(..., d_in) -> (..., d_out)``, in the type of ``x``."""
        if self.input_factor is not None:
            x = x * self.input_factor.to(x.dtype)
        if self.rotation is not None:
            x = self.rotation.apply(x)
        scale, zero_point = self._grid(x)
        q = quantize(x, scale, zero_point, AffineSpec(bits=self.bits))
        total = int8_product((q ^ 128).view(torch.int8).flatten(0, -2), self.weight).unflatten(0, x.shape[:-1])
        sums = total[..., : self.out_features] - (zero_point - 128) * self.row_sums
        if self.correction is not None:
            sums = sums - self.correction * total[..., self.out_features : self.out_features + 1]
        result = (sums.to(self.weight_scale.dtype) * (scale * self.weight_scale) + self.bias).to(x.dtype)
        if self.low_rank_up is None or self.low_rank_down is None:
            return result
        return result + (x @ self.low_rank_down.T) @ self.low_rank_up.T

    def _grid(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and unsigned zero point of the input, broadcastable against it: ``()``, or of each row or token."""
        if self.activation_scale is None or self.activation_zero_point is None:
            spec = activation_spec(self.config)
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            scale, zero_point = affine_from_range(*value_range(wide, spec), spec)
            return scale, zero_point - spec.qmin
        if self.activation_scale.ndim == 0:
            return self.activation_scale, self.activation_zero_point
        clock = self.clock[0]
        assert clock is not None
        return clock.pick(self.activation_scale, x), clock.pick(self.activation_zero_point, x)

    def extra_repr(self) -> str:
        """Shown by ``repr``."""
        return f"{self.in_features}, {self.out_features}, {self.config.label}, integer"


class Int8PatchEmbed(Int8Linear):
    """`QuantizedPatchEmbed` on integers."""

    def __init__(self, described: IntegerLinear, layer: QuantizedLinear, patch: int) -> None:
        super().__init__(described, layer)
        self.patch = patch

    def forward(self, x: Float[Tensor, "n channel height width"]) -> Float[Tensor, "n d_out rows columns"]:
        """``(n, c, h, w) -> (n, d_out, h / patch, w / patch)``."""
        patches = nn.functional.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        return super().forward(patches).transpose(1, 2).unflatten(2, (x.shape[2] // self.patch, -1))


def int8_product(
    a: Int8[Tensor, "row k"], weight: Int8[Tensor, "padded_out padded_k"]
) -> Int[Tensor, "row padded_out"]:
    """``a @ weight.T`` in 32-bit integers; ``a`` is padded with zeros to a shape that the kernel takes.

    Args:
        a: any number of rows, at most as many columns as the weight.
        weight: rows and columns in multiples of 8.
    """
    rows = len(a)
    if rows < MIN_ROWS or a.shape[1] != weight.shape[1]:
        missing = max(0, -(-MIN_ROWS // MULTIPLE) * MULTIPLE - rows) if rows < MIN_ROWS else 0
        a = nn.functional.pad(a, (0, weight.shape[1] - a.shape[1], 0, missing))
    return torch._int_mm(a.contiguous(), weight.t())[:rows]


def padded(weight: Int8[Tensor, "row column"], rows: int, columns: int) -> Int8[Tensor, "more_rows more_columns"]:
    """Zeros appended until both sizes are multiples."""
    return nn.functional.pad(weight, (0, -weight.shape[1] % columns, 0, -weight.shape[0] % rows))
