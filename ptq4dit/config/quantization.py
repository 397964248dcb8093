"""What a quantization is asked to do: frozen, validated, JSON there and back."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from numbers import Integral
from typing import Any, Literal, get_args

from ptq4dit.config.base import Config, from_fields, plain_number, renamed, require_choice, require_integer
from ptq4dit.config.methods import method_names
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.config.sensitivity import Sensitivity

WeightRange = Literal["minmax", "percentile", "mse"]
ActivationRange = Literal["minmax", "moving", "percentile", "mse"]
ActivationGranularity = Literal["per_tensor", "per_timestep_group", "per_token"]
Backend = Literal["simulated", "integer"]
TimestepSalience = Literal["per_timestep", "per_sample", "mean", "max"]
FLOAT_BITS = 16
"""The number of bits that means: leave this operand in float."""
PER_TOKEN: dict[str, Any] = {"activation_granularity": "per_token", "activation_symmetric": True}
"""A scale for every token's input, as the integer kernels of processors round."""
_ATTENTION = "attention"
"""Its name in overrides."""


@renamed(balance_fc2="input_factor")
@dataclass(frozen=True, kw_only=True)
class LayerConfig(Config):
    """How one layer is quantized: what `QuantConfig.layer` says once its overrides are applied.

    Attributes:
        input_factor: the layer multiplies its input by a factor for every channel before it rounds it.
        others: those of `QuantConfig` of the same name.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    weight_symmetric: bool = False
    activation_symmetric: bool = False
    group_size: int | None = None
    activation_granularity: ActivationGranularity = "per_tensor"
    timestep_groups: int = 1
    activation_group_size: int | None = None
    weight_range: WeightRange = "mse"
    activation_range: ActivationRange = "minmax"
    input_factor: bool = False
    rotation: bool = False
    rank: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("weight_bits", "activation_bits"):
            _require_bits(name, getattr(self, name))
        require_choice("activation_granularity", self.activation_granularity, get_args(ActivationGranularity))
        require_choice("weight_range", self.weight_range, get_args(WeightRange))
        require_choice("activation_range", self.activation_range, get_args(ActivationRange))
        for name in ("group_size", "activation_group_size"):
            if getattr(self, name) is not None:
                require_integer(name, getattr(self, name), at_least=1)
        require_integer("timestep_groups", self.timestep_groups, at_least=1)
        require_integer("rank", self.rank, at_least=0)
        if self.activation_group_size is not None and self.activation_granularity != "per_token":
            raise ValueError(
                "activation_group_size needs ranges that are found for every token: set "
                f'activation_granularity="per_token" (got {self.activation_granularity!r}), or leave it at None.'
            )

    @property
    def label(self) -> str:
        """Short name such as ``"W4A8"``."""
        return f"W{self.weight_bits}A{self.activation_bits}"


@dataclass(frozen=True, kw_only=True)
class Override(Config):
    """Other settings for the layers whose name a shell pattern matches; None keeps the general setting.

    Attributes:
        pattern: such as ``"blocks.0.*"``, ``"*.fc2"`` or ``"final.linear"``.
        weight_bits, activation_bits, group_size, activation_symmetric: as in `QuantConfig`.
    """

    pattern: str
    weight_bits: int | None = None
    activation_bits: int | None = None
    group_size: int | None = None
    activation_symmetric: bool | None = None


@renamed(balance_fc2="balance_inputs")
@dataclass(frozen=True, kw_only=True)
class QuantConfig(Config):
    """How a DiT is quantized. ``csb=False, ssc=False`` is plain round-to-nearest.

    Attributes:
        weight_bits: 2 to 8, or 16 to leave weights in float.
        activation_bits: 2 to 8, or 16 to leave activations in float.
        csb: Channel-wise Salience Balancing (PTQ4DiT eqs. 3-7).
        ssc: Spearman's rho-guided Salience Calibration (eqs. 10, 11); without it CSB uses the middle timestep.
        timestep_salience: how SSC makes one activation salience of many: ``"per_timestep"`` (the paper),
            ``"per_sample"`` (what the released code does), ``"mean"`` or ``"max"`` over the timesteps.
        method: a recipe of `ptq4dit.methods`.
        options: what only this method knows, such as ``{"alpha": 0.5}``; kept as sorted pairs.
        weight_range: ``"minmax"``, ``"percentile"`` (the best of the paper's three) or ``"mse"`` (a search), for each
            output channel or group.
        activation_range: ``"minmax"`` over all timesteps, ``"moving"`` (their moving average), ``"percentile"`` or
            ``"mse"`` over the kept token rows.
        weight_symmetric: zero point in the middle of the grid; None for asymmetric, except 8-bit weights on the integer
            backend: asymmetric ones do not fit a signed byte and cost a correction there, exact but slower.
        activation_symmetric: zero point in the middle of the grid; None for asymmetric, except groups of channels of a
            token on the integer backend, which OpenVINO rounds symmetrically.
        group_size: input channels of a weight row that share a scale; None for the whole row.
        activation_granularity: ``"per_tensor"`` static (the paper), ``"per_timestep_group"`` static for each of
            ``timestep_groups`` ranges of timesteps, ``"per_token"`` dynamic.
        timestep_groups: number of groups for ``"per_timestep_group"``.
        activation_group_size: channels of a token that share a scale, for ``"per_token"``; None for all of them.
        balance_inputs: balance also where nothing in front can absorb a factor, as behind a GELU: the rounding of the
            input does, with a scale for every channel where there was one for all, which the weight makes up for.
            None leaves it to the family: no for the DiT, as in the paper, whose fc2 it is; yes for others.
        rotation: a Hadamard rotation in front of every block linear, at run time.
        rank: rank of a float branch beside every block linear; 0 for none.
        patch_embed, conditioning, modulation, final_layer: quantize these layers as well.
        attention_bits: q, k and v; 16 leaves the attention's products in float. On the integer backend, which
            multiplies bytes with a zero point in the middle only, an override of ``"attention"`` is added that says so.
        softmax_bits: the softmax output, zero point 0; 16 for float.
        overrides: settings of single layers, later ones win; a dict from pattern to settings is accepted too.
        reconstruction: None, or how rounding and scales are learned block by block.
        backend: ``"simulated"`` in floats, or ``"integer"``: see `ptq4dit.with_backend`.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    csb: bool = True
    ssc: bool = True
    timestep_salience: TimestepSalience = "per_timestep"
    method: str = "ptq4dit"
    options: Any = ()
    weight_range: WeightRange = "mse"
    activation_range: ActivationRange = "minmax"
    weight_symmetric: bool | None = None
    activation_symmetric: bool | None = None
    group_size: int | None = None
    activation_granularity: ActivationGranularity = "per_tensor"
    timestep_groups: int = 5
    activation_group_size: int | None = None
    balance_inputs: bool | None = None
    rotation: bool = False
    rank: int = 0
    patch_embed: bool = False
    conditioning: bool = False
    modulation: bool = False
    final_layer: bool = False
    attention_bits: int = FLOAT_BITS
    softmax_bits: int = FLOAT_BITS
    overrides: Any = ()
    reconstruction: Any = None
    backend: str = "simulated"

    def __post_init__(self) -> None:
        super().__post_init__()
        options = sorted((str(name), plain_number(value)) for name, value in dict(self.options).items())
        object.__setattr__(self, "options", tuple(options))
        object.__setattr__(self, "overrides", _overrides(self.overrides))
        if self.weight_symmetric is None:
            object.__setattr__(self, "weight_symmetric", self.backend == "integer" and self.weight_bits == 8)
        if self.activation_symmetric is None:
            grouped = self.backend == "integer" and self.activation_group_size is not None
            object.__setattr__(self, "activation_symmetric", grouped)
        if isinstance(self.reconstruction, Mapping):
            object.__setattr__(self, "reconstruction", from_fields(ReconstructionConfig, self.reconstruction))
        for name in ("attention_bits", "softmax_bits"):
            _require_bits(name, getattr(self, name))
        if self.backend == "integer" and self.attention_bits != FLOAT_BITS:
            object.__setattr__(self, "overrides", _with_symmetric_attention(self.overrides))
        require_choice("method", self.method, method_names())
        require_choice("timestep_salience", self.timestep_salience, get_args(TimestepSalience))
        self.layer("")
        for override in self.overrides:
            self.layer(override.pattern)
        if self.ssc and not self.csb:
            raise ValueError(
                "ssc=True has nothing to act on with csb=False: SSC only chooses the salience that CSB balances with. "
                "Set csb=True, or ssc=False as well."
            )
        if self.reconstruction is not None and not isinstance(self.reconstruction, ReconstructionConfig):
            raise ValueError(
                f"Expected reconstruction to be None or a ReconstructionConfig, got {self.reconstruction!r}."
            )
        require_backend(self.backend)
        if self.balance_inputs not in (None, True, False):
            raise ValueError(f"Expected balance_inputs to be True, False or None, got {self.balance_inputs!r}.")

    @property
    def label(self) -> str:
        """Short name such as ``"W4A8"``."""
        return f"W{self.weight_bits}A{self.activation_bits}"

    @classmethod
    def budget(cls, *, bytes: int, sensitivity: Sensitivity, **settings: Any) -> "QuantConfig":
        """A config whose weight bits differ by site: the least error that so many bytes can have.

        Args:
            bytes: of the transformer as it is saved.
            sensitivity: of the model, for the bits that may be chosen.
            settings: everything else; overrides among them win.

        Raises:
            ValueError: if even the fewest bits take more, or ``weight_bits`` is given.
        """
        if "weight_bits" in settings:
            raise ValueError("Expected weight_bits to be left to the budget, got some. Leave them out.")
        chosen = sensitivity.chosen_bits(bytes)
        common = max(sorted(set(chosen.values())), key=list(chosen.values()).count)
        own = tuple(Override(pattern=site, weight_bits=bits) for site, bits in chosen.items() if bits != common)
        overrides = own + _overrides(settings.pop("overrides", ()))
        return cls(weight_bits=common, overrides=overrides, **settings)

    def option(self, name: str, default: Any) -> Any:
        """A setting that only the chosen method knows."""
        return dict(self.options).get(name, default)

    def layer(self, name: str) -> LayerConfig:
        """The settings of one layer by its name, overrides applied; see `layer_settings` for what its place adds."""
        own = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(LayerConfig)
            if field.name != "input_factor"
        }
        for override in self.overrides:
            if fnmatchcase(name, override.pattern) or name == override.pattern:
                given = dataclasses.asdict(override)
                own |= {key: value for key, value in given.items() if key != "pattern" and value is not None}
        return LayerConfig(**own)


def require_backend(backend: str) -> None:
    """Refuse a name that is no `Backend`."""
    require_choice("backend", backend, get_args(Backend))


def _require_bits(name: str, value: object) -> None:
    if not isinstance(value, Integral) or (value != FLOAT_BITS and not 2 <= int(value) <= 8):
        raise ValueError(f"Expected {name} to be 2 to 8, or {FLOAT_BITS} to leave it in float, got {value!r}.")


def _with_symmetric_attention(overrides: tuple[Override, ...]) -> tuple[Override, ...]:
    """The same, one more where none says of the attention's zero points."""
    said = any(item.pattern == _ATTENTION and item.activation_symmetric is not None for item in overrides)
    return overrides if said else (*overrides, Override(pattern=_ATTENTION, activation_symmetric=True))


def _overrides(given: Any) -> tuple[Override, ...]:
    """Overrides as a tuple, from a dict (pattern -> settings), from JSON's lists of dicts, or as they are."""
    if isinstance(given, Mapping):
        given = [{"pattern": pattern} | dict(settings) for pattern, settings in given.items()]
    return tuple(item if isinstance(item, Override) else from_fields(Override, item) for item in given)
