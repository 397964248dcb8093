"""Which attentions of a transformer are rounded, and in which ranges: from a calibration."""

from collections.abc import Mapping

from torch import nn

from ptq4dit.calibration.attention_names import range_name
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.quantization import FLOAT_BITS, QuantConfig
from ptq4dit.model.attention import PARTS
from ptq4dit.model.families.registry import family_of
from ptq4dit.quantized.attention import ROUNDING, AttentionRounding
from ptq4dit.quantized.ranges import grouped_range


def rounds_attention(config: QuantConfig) -> bool:
    """Whether a config rounds any part of an attention."""
    return (config.attention_bits, config.softmax_bits) != (FLOAT_BITS, FLOAT_BITS)


def rounded_attentions(transformer: nn.Module, stats: Calibration, config: QuantConfig) -> dict[str, str]:
    """The attentions that a config rounds, by path, and how the names of their ranges begin; none if it rounds none.

    They are all those of the blocks that calibration saw asking torch for ``scaled_dot_product_attention``.

    Raises:
        ValueError: if the calibration has no ranges of them, or one of diffusers' ends in another product.
    """
    if not rounds_attention(config):
        return {}
    modules = [
        (path, module)
        for block in family_of(transformer).blocks(transformer)
        for path, module in transformer.get_submodule(block).named_modules(prefix=block)
    ]
    names = {path: range_name(transformer, path) for path, _ in modules}
    if family_of(transformer).name == "dit":
        names = {path: name for path, name in names.items() if name != path}
    found = {path: name for path, name in names.items() if all(f"{name}.{part}" in stats.extra_min for part in PARTS)}
    if not found:
        raise ValueError(
            "Expected a calibration with the ranges of q, k, v and the softmax, which attention_bits and softmax_bits "
            "need, got one without: it was made by an earlier version, or no attention of this "
            f"{type(transformer).__name__} calls torch.nn.functional.scaled_dot_product_attention. Calibrate again "
            f"(ptq4dit.calibrate, ptq4dit.watch), or leave both at {FLOAT_BITS}."
        )
    for path, module in modules:
        processor = getattr(module, "processor", None)
        if processor is not None and path not in found:
            raise ValueError(
                f"Expected an attention that ends in torch.nn.functional.scaled_dot_product_attention in {path!r}, got "
                f"another way in {type(processor).__name__}: its q, k, v and softmax cannot be rounded. Leave "
                f"attention_bits and softmax_bits at {FLOAT_BITS}."
            )
    return found


def fill_attentions(
    transformer: nn.Module, attentions: Mapping[str, str], stats: Calibration, config: QuantConfig, groups: list[slice]
) -> None:
    """Set the static ranges of installed roundings.

    Args:
        transformer: a quantized one.
        attentions: from `rounded_attentions`.
        stats: of the model as it is folded.
        config: whose ``"attention"`` says how ranges are chosen.
        groups: slices of ``stats.timesteps``, from `TimestepClock.fit`.

    Raises:
        ValueError: if folding made the values of an attention something whose range is not known.
    """
    if config.activation_granularity == "per_token":
        return
    layer = config.layer("attention")
    for path, name in attentions.items():
        if f"{name}.v" not in stats.extra_min:
            raise ValueError(
                f"Expected values with a channel for each of the output projection's in {path!r}, got others: their "
                f"range behind the balancing is not known. Leave attention_bits at {FLOAT_BITS}, or set csb=False."
            )
        ranges = {}
        for part in PARTS:
            ends = stats.extra_min[f"{name}.{part}"], stats.extra_max[f"{name}.{part}"]
            ranges[part] = grouped_range(*ends, None, layer, groups)
        rounding_of(transformer.get_submodule(path)).set_ranges(**ranges)


def rounding_of(attention: nn.Module) -> AttentionRounding:
    """What rounds an attention: its processor, or what catches its product."""
    found = getattr(attention, ROUNDING, None) or attention.processor
    assert isinstance(found, AttentionRounding)
    return found
