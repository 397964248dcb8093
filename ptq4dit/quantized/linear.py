"""A linear layer with integer weights and a rounded input, simulated in floats."""

from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ptq4dit.config.quantization import FLOAT_BITS, LayerConfig
from ptq4dit.numerics.affine import AffineSpec, affine_from_range
from ptq4dit.numerics.packing import unpack_int4
from ptq4dit.numerics.rotation import Rotation
from ptq4dit.quantized.activation import is_static, round_dynamic, round_static
from ptq4dit.quantized.timestep_groups import TimestepClock
from ptq4dit.quantized.weight import expand_weight, groups_of, quantize_weight
from ptq4dit.storage.mapped_file import is_mapped, read_around


class QuantizedLinear(nn.Module):
    """``y = dequantize(quantize(x)) dequantize(W_q)^T + bias``, PTQ4DiT eq. 2 on both operands.

    Buffers, all saved: ``weight_q`` ``(d_out, d_in)`` uint8, ``weight_scale`` and ``weight_zero_point``
    ``(d_out, groups)``, one group unless the config says otherwise (or ``weight`` itself when left in float),
    ``activation_scale`` and ``activation_zero_point`` ``()`` or ``(timestep groups,)`` when static, ``bias``,
    ``input_factor`` ``(d_in,)`` where the layer balances its input itself, and ``low_rank_down`` ``(rank, d_in)`` with
    ``low_rank_up`` ``(d_out, rank)``, a float branch on the unrounded input. All that is rounded is prepared before:
    the input by `prepare_input`, the weight by `prepare_weight`, which makes up for it.
    Derived, not saved: ``weight``, the dequantized weight that the simulated product uses.

    One that only holds integers for others to multiply (`release`) may have ``weight_q`` as its file has it: mapped,
    and up to four bits two to a byte. `integers` gives them as they are meant, and so does a state dict.
    """

    weight: Tensor
    bias: Tensor | None
    weight_q: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor
    activation_scale: Tensor
    activation_zero_point: Tensor
    input_factor: Tensor
    low_rank_down: Tensor
    low_rank_up: Tensor

    def __init__(self, like: nn.Linear, config: LayerConfig, clock: TimestepClock | None = None) -> None:
        """An unfilled layer with the shape, type and device of ``like``; fill it by `from_float` or a state dict."""
        super().__init__()
        self.in_features, self.out_features, self.config = like.in_features, like.out_features, config
        self._clock = [clock]  # in a list: the clock belongs to the transformer, not to each layer
        self.rotation = Rotation(width=like.in_features) if config.rotation else None
        weight, float_weight = torch.zeros_like(like.weight.detach()), config.weight_bits == FLOAT_BITS
        wide, groups = torch.promote_types(weight.dtype, torch.float32), groups_of(weight.shape[1], config)
        self.register_buffer("weight", weight, persistent=float_weight)
        self.register_buffer("bias", None if like.bias is None else torch.zeros_like(like.bias.detach()))
        if not float_weight:
            scale = torch.ones(len(weight), groups, dtype=wide, device=weight.device)
            self.register_buffer("weight_q", torch.zeros_like(weight, dtype=torch.uint8))
            self.register_buffer("weight_scale", scale)
            self.register_buffer("weight_zero_point", torch.zeros_like(scale, dtype=torch.int32))
        if is_static(config):
            shape = (config.timestep_groups,) if config.activation_granularity == "per_timestep_group" else ()
            scale = torch.ones(shape, dtype=wide, device=weight.device)
            self.register_buffer("activation_scale", scale)
            self.register_buffer("activation_zero_point", torch.zeros_like(scale, dtype=torch.int32))
        if config.input_factor:
            self.register_buffer("input_factor", torch.ones(self.in_features, dtype=wide, device=weight.device))
        if config.rank:
            self.register_buffer("low_rank_down", weight.new_zeros(config.rank, self.in_features))
            self.register_buffer("low_rank_up", weight.new_zeros(self.out_features, config.rank))
        self.register_load_state_dict_post_hook(_derive_weight)

    @classmethod
    @torch.no_grad()
    def from_float(
        cls,
        linear: nn.Linear,
        config: LayerConfig,
        activation_range: tuple[Float[Tensor, "*groups"], Float[Tensor, "*groups"]] | None,
        clock: TimestepClock | None = None,
        factor: Float[Tensor, " d_in"] | None = None,
    ) -> "QuantizedLinear":
        """Quantize a float linear, weights rounded to nearest.

        Args:
            linear: left as it is.
            config: bits, granularity and the way weight ranges are chosen.
            activation_range: smallest and largest input value to represent, ``()`` or ``(timestep groups,)``, once
                prepared; None when the input is not rounded statically.
            clock: the transformer's clock, for scales per timestep group.
            factor: of every input channel, where the layer balances its input itself; None for ones.
        """
        result, weight = cls(linear, config, clock), linear.weight.detach()
        if result.bias is not None:
            result.bias.copy_(linear.bias)
        if factor is not None:
            result.input_factor.copy_(factor)
        weight = result.prepare_weight(weight)
        if config.rank:
            up, down = principal_part(weight, config.rank)
            result.low_rank_up.copy_(up)
            result.low_rank_down.copy_(down)
            weight = weight - (result.low_rank_up @ result.low_rank_down)
        result.set_weight(weight)
        if is_static(config):
            assert activation_range is not None
            result.set_activation_range(*activation_range)
        return result

    @torch.no_grad()
    def set_weight(self, weight: Float[Tensor, "d_out d_in"]) -> None:
        """Replace the integers and their grid by those of another float weight (prepared, without the float branch)."""
        if self.config.weight_bits == FLOAT_BITS:
            self.weight.copy_(weight)
        else:
            self.set_integers(*quantize_weight(weight, self.config))

    @torch.no_grad()
    def set_integers(self, weight_q: Tensor, scale: Tensor, zero_point: Tensor) -> None:
        """Replace integers, scale and zero point as they are; shapes as in the class's docstring."""
        self.weight_q.copy_(weight_q)
        self.weight_scale.copy_(scale)
        self.weight_zero_point.copy_(zero_point)
        _derive_weight(self)

    @torch.no_grad()
    def set_activation_range(self, low: Float[Tensor, "*groups"], high: Float[Tensor, "*groups"]) -> None:
        """Replace the static scale and zero point of the input by those that cover a range."""
        spec = AffineSpec(bits=self.config.activation_bits, symmetric=self.config.activation_symmetric)
        scale, zero_point = affine_from_range(low, high, spec)
        self.activation_scale.copy_(scale)
        self.activation_zero_point.copy_(zero_point)

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """``(..., d_in) -> (..., d_out)``."""
        x = self.prepare_input(x)
        weight = self.weight if self.weight.numel() else self._expanded()
        result = nn.functional.linear(self.round_input(x), weight, self.bias)
        return result + (x @ self.low_rank_down.T) @ self.low_rank_up.T if self.config.rank else result

    def prepare_input(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_in"]:
        """The input as it is rounded: its channels times their factors, then rotated, where the config says so."""
        if self.config.input_factor:
            x = x * self.input_factor.to(x.dtype)
        return x if self.rotation is None else self.rotation.apply(x)

    def prepare_weight(self, weight: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "d_out d_in"]:
        """The weight whose product with the prepared input is the same."""
        if self.config.input_factor:
            weight = (weight.to(self.input_factor.dtype) / self.input_factor).to(weight.dtype)
        return weight if self.rotation is None else self.rotation.apply(weight)

    def round_input(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The input as the integer product sees it; ``x`` is prepared already."""
        if self.config.activation_bits == FLOAT_BITS:
            return x
        if not is_static(self.config):
            return round_dynamic(x, self.config)
        return round_static(x, self.activation_scale, self.activation_zero_point, self.config, self.clock)

    @property
    def clock(self) -> TimestepClock | None:
        """Knows the timesteps of the current batch, where the scales depend on them."""
        return self._clock[0]

    def integers(self) -> UInt8[Tensor, "d_out d_in"]:
        """``weight_q``, one to a byte and in memory, however it is held."""
        held = read_around(self.weight_q)
        return unpack_int4(held, self.in_features) if self._is_packed() else held

    def release(self) -> None:
        """Free the derived float weight; from now on it is made anew whenever the layer is called."""
        if self.config.weight_bits != FLOAT_BITS:
            self.weight = self.weight.new_empty(0)

    def restore(self) -> None:
        """Undo `release`; integers that lie in a file become the layer's own."""
        if self.config.weight_bits != FLOAT_BITS and (is_mapped(self.weight_q) or self._is_packed()):
            self.weight_q = self.integers().clone()
        if not self.weight.numel():
            self.weight = self._expanded()

    def _expanded(self) -> Tensor:
        return expand_weight(self.integers(), self.weight_scale, self.weight_zero_point).to(self.weight.dtype)

    def _is_packed(self) -> bool:
        return self.weight_q.shape != (self.out_features, self.in_features)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.config.weight_bits != FLOAT_BITS and self._is_packed():
            destination[f"{prefix}weight_q"] = self.integers()

    def extra_repr(self) -> str:
        """Shown by ``repr``."""
        return f"{self.in_features}, {self.out_features}, {self.config.label}"


class QuantizedPatchEmbed(QuantizedLinear):
    """A convolution whose kernel is one patch, as the quantized linear of the patches that it is."""

    def __init__(self, like: nn.Conv2d, config: LayerConfig, clock: TimestepClock | None = None) -> None:
        super().__init__(flat_linear(like), config, clock)
        self.patch = like.kernel_size[0]

    @classmethod
    def from_float(cls, linear: Any, config: LayerConfig, *arguments: Any) -> "QuantizedPatchEmbed":
        """As for a linear, from a convolution."""
        result = cls(linear, config)
        result.load_state_dict(QuantizedLinear.from_float(flat_linear(linear), config, *arguments).state_dict())
        result._clock = list(arguments[1:2]) or [None]
        return result

    def forward(self, x: Float[Tensor, "n channel height width"]) -> Float[Tensor, "n d_out rows columns"]:
        """``(n, c, h, w) -> (n, d_out, h / patch, w / patch)``, as the convolution that it replaces."""
        patches = nn.functional.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        return super().forward(patches).transpose(1, 2).unflatten(2, (x.shape[2] // self.patch, -1))


def flat_linear(convolution: nn.Conv2d) -> nn.Linear:
    """The linear that a convolution with stride = kernel size applies to every flattened patch.

    Raises:
        ValueError: if patches overlap or leave gaps.
    """
    if convolution.stride != convolution.kernel_size or convolution.padding != (0, 0):
        raise ValueError(
            f"Expected a patch embedding with stride = kernel size and no padding, got {convolution}. Set "
            "patch_embed=False."
        )
    weight = convolution.weight.detach().flatten(1)
    linear = nn.Linear(weight.shape[1], weight.shape[0], convolution.bias is not None, weight.device, weight.dtype)
    state = {"weight": weight} | ({} if convolution.bias is None else {"bias": convolution.bias.detach()})
    linear.load_state_dict(state)
    return linear


def principal_part(
    weight: Float[Tensor, "d_out d_in"], rank: int
) -> tuple[Float[Tensor, "d_out rank"], Float[Tensor, "rank d_in"]]:
    """The best approximation of a weight by a product ``up @ down`` of that rank (truncated singular values).

    Raises:
        ValueError: if the weight has no such rank.
    """
    if rank > min(weight.shape):
        raise ValueError(
            f"Expected a rank of at most {min(weight.shape)} for a weight {tuple(weight.shape)}, got {rank}."
        )
    u, s, v = torch.linalg.svd(weight.to(torch.promote_types(weight.dtype, torch.float32)), full_matrices=False)
    root = s[:rank].sqrt()
    return (u[:, :rank] * root).to(weight.dtype), (root[:, None] * v[:rank]).to(weight.dtype)


@torch.no_grad()
def _derive_weight(linear: QuantizedLinear, _incompatible_keys: object = None) -> None:
    if linear.config.weight_bits != FLOAT_BITS and linear.weight.numel():
        linear.weight.copy_(expand_weight(linear.weight_q, linear.weight_scale, linear.weight_zero_point))
