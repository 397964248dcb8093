"""Integer execution on CUDA: int8 matrix products by ``torch._int_mm``, exact zero points, a float epilogue.

Attention, norms and the modulation stay in float. Shapes that the kernel refuses are padded, never sent elsewhere.
"""

import copy
from typing import Any

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor, nn

from ptq4dit.backends.integer import IntegerTransformer
from ptq4dit.config.quantization import FLOAT_BITS, LayerConfig
from ptq4dit.model.forward import predict
from ptq4dit.numerics.affine import affine_from_range, quantize, value_range
from ptq4dit.quantized.activation import activation_spec, is_static
from ptq4dit.quantized.linear import QuantizedLinear, QuantizedPatchEmbed
from ptq4dit.quantized.timestep_groups import TimestepClock

MIN_ROWS = 17
"""``torch._int_mm`` on CUDA wants more than 16 rows."""
MULTIPLE = 8
"""... and columns, of both operands, in multiples of 8."""
MAX_COLUMNS = (2**31 - 1) // 255**2
"""Input channels whose products of two 8-bit differences surely fit the 32-bit accumulator."""


def build(twin: Any, options: Any = None) -> IntegerTransformer:
    """The model with its quantized layers on integers; attention, norms and modulation in the twin's type.

    Args:
        twin: what `ptq4dit.quantize` made, on a CUDA device.
        options: of the CPU backend; nothing in them concerns this one.

    Raises:
        ValueError: if there is no CUDA device, the model is not on one, or a layer has no integer product.
    """
    device = next(twin.parameters()).device
    require_cuda(device)
    made = replace_linears(twin)
    name = torch.cuda.get_device_name(device)
    return IntegerTransformer(
        twin, lambda latents, modulation: predict(made, latents, modulation), f"torch {torch.__version__}, {name}"
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
        require_integer(name, layer)
        made = Int8PatchEmbed(layer) if isinstance(layer, QuantizedPatchEmbed) else Int8Linear(layer)
        made.clock = [done.get(id(layer._clock[0]))]
        done[id(layer)] = made
    return copy.deepcopy(transformer, done)


def require_integer(name: str, layer: QuantizedLinear) -> None:
    """Refuse a layer that integer products cannot express, naming it and its setting."""
    config, why = layer.config, ""
    if FLOAT_BITS in (config.weight_bits, config.activation_bits):
        why = f"{config.label}, where 16 means float"
    elif config.group_size not in (None, layer.in_features):
        why = f"one weight scale for every {config.group_size} input channels"
    elif config.activation_group_size is not None:
        why = f"one activation scale for every {config.activation_group_size} channels"
    elif layer.in_features > MAX_COLUMNS:
        why = f"{layer.in_features} input channels, of which 32 bits can sum {MAX_COLUMNS}"
    if why:
        raise ValueError(
            f"Expected a layer of at most 8 bits with one scale per weight row, got {why}, at {name!r}. "
            'Choose backend="simulated", or another setting for this layer.'
        )


class Int8Linear(nn.Module):
    """``y = s_x s_w (sum_k (q_x - z_x)(q_w - z_w)) + bias``, the sum in 32-bit integers and exact.

    Both operands are shifted into int8: ``q_x - 128`` and ``q_w - c``, where c is 128, or for up to seven bits the
    zero point itself. With what is left of the zero points, a for the input and b for a weight row,
    ``sum = int_mm - a sum_k(q_w - z_w) - b sum_k q_x'``. The last sum is made by the same product: a row of ones is
    appended to the weight when some b is not 0.
    """

    weight: Tensor
    row_sums: Tensor
    leftover: Tensor | None
    weight_scale: Tensor
    bias: Tensor | None
    activation_scale: Tensor
    activation_zero_point: Tensor
    input_factor: Tensor
    low_rank_down: Tensor
    low_rank_up: Tensor

    def __init__(self, layer: QuantizedLinear) -> None:
        """From a quantized layer, which is left as it is."""
        super().__init__()
        self.config, self.in_features, self.out_features = layer.config, layer.in_features, layer.out_features
        self.rotation, self.clock = layer.rotation, layer._clock
        weight, leftover = shifted_weight(layer.weight_q, layer.weight_zero_point, layer.config.weight_bits)
        sums = layer.weight_q.int().sum(1, dtype=torch.int32) - layer.in_features * layer.weight_zero_point[:, 0]
        if leftover is not None:
            weight = torch.cat([weight, torch.ones_like(weight[:1])])
        self.register_buffer("weight", padded(weight, MULTIPLE, MULTIPLE))
        self.register_buffer("row_sums", sums)
        self.register_buffer("leftover", leftover)
        self.register_buffer("weight_scale", layer.weight_scale[:, 0].clone())
        self.register_buffer("bias", None if layer.bias is None else layer.bias.clone())
        for name in ("activation_scale", "activation_zero_point", "input_factor", "low_rank_down", "low_rank_up"):
            if hasattr(layer, name):
                self.register_buffer(name, getattr(layer, name).clone())

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """``(..., d_in) -> (..., d_out)``, in the type of ``x``."""
        if self.config.input_factor:
            x = x * self.input_factor.to(x.dtype)
        if self.rotation is not None:
            x = self.rotation.apply(x)
        scale, zero_point = self._grid(x)
        q, offset = shifted_input(x, scale, zero_point, self.config)
        total = int8_product(q.flatten(0, -2), self.weight).unflatten(0, x.shape[:-1])
        sums = total[..., : self.out_features] - offset * self.row_sums
        if self.leftover is not None:
            sums = sums - self.leftover * total[..., self.out_features : self.out_features + 1]
        result = sums.to(self.weight_scale.dtype) * (scale * self.weight_scale)
        result = (result if self.bias is None else result + self.bias).to(x.dtype)
        return result + (x @ self.low_rank_down.T) @ self.low_rank_up.T if self.config.rank else result

    def _grid(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point of the input, broadcastable against it: ``()`` or one for each row or token."""
        if not is_static(self.config):
            spec = activation_spec(self.config)
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            return affine_from_range(*value_range(wide, spec), spec)
        scale, zero_point = self.activation_scale, self.activation_zero_point
        if scale.ndim == 0:
            return scale, zero_point
        clock = self.clock[0]
        assert clock is not None
        return clock.pick(scale, x), clock.pick(zero_point, x)

    def extra_repr(self) -> str:
        """Shown by ``repr``."""
        return f"{self.in_features}, {self.out_features}, {self.config.label}, integer"


class Int8PatchEmbed(Int8Linear):
    """`QuantizedPatchEmbed` on integers."""

    def __init__(self, layer: QuantizedPatchEmbed) -> None:
        super().__init__(layer)
        self.patch = layer.patch

    def forward(self, x: Float[Tensor, "n channel height width"]) -> Float[Tensor, "n d_out rows columns"]:
        """``(n, c, h, w) -> (n, d_out, h / patch, w / patch)``."""
        patches = nn.functional.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        return super().forward(patches).transpose(1, 2).unflatten(2, (x.shape[2] // self.patch, -1))


def shifted_weight(
    weight_q: Tensor, zero_point: Int[Tensor, "d_out 1"], bits: int
) -> tuple[Int8[Tensor, "d_out d_in"], Int[Tensor, " d_out"] | None]:
    """Unsigned integers as int8, and what is left of their zero points: None when it is 0 in every row."""
    if bits < 8:
        return (weight_q.int() - zero_point).to(torch.int8), None
    leftover = zero_point[:, 0] - 128
    return (weight_q.int() - 128).to(torch.int8), leftover if bool(leftover.any()) else None


def shifted_input(
    x: Float[Tensor, "*batch d_in"], scale: Tensor, zero_point: Tensor, config: LayerConfig
) -> tuple[Int8[Tensor, "*batch d_in"], Tensor]:
    """The input's integers as int8, and the zero point that goes with them (shaped like ``scale``)."""
    spec = activation_spec(config)
    q = quantize(x, scale, zero_point, spec)
    if q.dtype == torch.int8:
        return q, zero_point
    return (q ^ 128).view(torch.int8), zero_point - 128


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
