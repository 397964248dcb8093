"""The input of a quantized layer as rows: tokens of a linear, patches of a convolution."""

from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.model.streamed import weights
from ptq4dit.quantized.linear import QuantizedLinear, QuantizedPatchEmbed


def as_rows(linear: QuantizedLinear, x: Float[Tensor, "..."]) -> Float[Tensor, "... d_in"]:
    """What the layer multiplies by its weight: ``(n, c, h, w) -> (n, patches, d_in)`` for a convolution."""
    if isinstance(linear, QuantizedPatchEmbed):
        return nn.functional.unfold(x, linear.patch, stride=linear.patch).transpose(1, 2)
    return x


def from_rows(
    linear: QuantizedLinear, y: Float[Tensor, "... d_out"], like: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """Rows of the output in the shape in which the layer returns them, ``like`` being its input."""
    if isinstance(linear, QuantizedPatchEmbed):
        return y.transpose(1, 2).unflatten(2, (like.shape[2] // linear.patch, -1))
    return y


def by_sample(linear: QuantizedLinear, x: Float[Tensor, "..."], samples: int) -> Float[Tensor, "sample token d_in"]:
    """The rows of each sample, prepared for rounding."""
    rows = as_rows(linear, x)
    return linear.prepare_input(rows.reshape(samples, -1, rows.shape[-1]))


def float_weight(linear: QuantizedLinear, like: nn.Module) -> Float[Tensor, "d_out d_in"]:
    """The weight of the float layer, prepared for the quantized one's input."""
    assert isinstance(like, nn.Linear | nn.Conv2d)
    with weights(like):
        return linear.prepare_weight(like.weight.detach().flatten(1))


def gate_weights(output: Float[Tensor, "sample ..."], rows: slice, samples: int) -> Float[Tensor, " sample"]:
    """The mean square of a gate, in float64."""
    return output[..., rows].double().square().reshape(samples, -1).mean(1)


def relative(weights: Float[Tensor, " sample"]) -> Float[Tensor, " sample"] | None:
    """Weights as shares of the largest one, so that their products do not vanish; None if all are 0."""
    largest = weights.max()
    return None if float(largest) == 0 else weights / largest
