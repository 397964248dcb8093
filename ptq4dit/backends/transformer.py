"""A quantized transformer that runs on integers: an instance of a subclass of its stock class, with another forward."""

import copy
import functools
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from jaxtyping import Float, Int, Real
from torch import Tensor, nn

from ptq4dit.backends.seen_modulations import SeenModulations
from ptq4dit.model.forward import Modulation, modulate
from ptq4dit.quantized.linear import QuantizedLinear

Build = Callable[[Any], "IntegerTransformer"]
"""Makes the integer model of a simulated twin; also how a pickled one is made again."""


class IntegerTransformer(nn.Module):
    """What stands in front of the stock class: `as_integer` makes the class and the instance.

    It has the twin's modules, parameters, config and attributes, and so all that diffusers' class has. What would
    change the model without changing what is compiled is refused.

    Attributes:
        twin: the simulated model that it was made from.
        step: what a call runs.
        runtime: what runs it, such as ``"OpenVINO 2026.4.1, CPU"``.
        ptq4dit_record: how the model was quantized.
    """

    twin: Any
    step: Callable[..., Any]
    runtime: str
    ptq4dit_record: Any
    _build: Build
    _modulation: Callable[..., Modulation]

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the stock class is called, the quantized linears run on integers."""
        return self.step(*args, **kwargs)

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Numbers of the float model: weights that are integers here count, but not among those that can be trained."""
        count = super().num_parameters(only_trainable, exclude_embeddings)  # type: ignore[misc]
        linears = [module for module in self.modules() if isinstance(module, QuantizedLinear)]
        sizes = [linear.out_features * (linear.in_features + (linear.bias is not None)) for linear in linears]
        return count if only_trainable else count + sum(sizes)

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """As the stock class, but not to another kind of device.

        Raises:
            ValueError: for a device that this model was not compiled for.
        """
        device = torch._C._nn._parse_to(*args, **kwargs)[0]
        here = next(self.parameters()).device.type
        if device is not None and device.type != here:
            self._refuse(f"moved from {here} to {device.type}")
        return super().to(*args, **kwargs)

    def train(self, mode: bool = True) -> Any:
        """It stays in evaluation.

        Raises:
            ValueError: if it is to be trained.
        """
        if mode:
            self._refuse("trained")
        return super().train(mode)

    def save_pretrained(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: what is compiled is no file of diffusers'."""
        raise ValueError(
            "Expected a model that diffusers can write, got one compiled for this machine. Use "
            "ptq4dit.save_quantized(model, folder), which writes its integers and says how to run them."
        )

    push_to_hub = save_pretrained

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Another model around the same compiled step."""
        result = as_integer(_kind(self), copy.deepcopy(self.twin, memo), **self._parts())
        memo[id(self)] = result
        return result

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickled as its twin; compiled again where it is read, or taken from the cache there."""
        return _rebuilt, (self._build, self.twin, self.ptq4dit_record)

    def _parts(self) -> dict[str, Any]:
        names = ("step", "runtime", "ptq4dit_record", "_build", "_modulation")
        return {name: vars(self)[name] for name in names}

    def _refuse(self, what: str) -> NoReturn:
        raise ValueError(
            f"Expected a transformer that runs on integers to be called, got one to be {what}: it is compiled as it "
            'is. Use ptq4dit.with_backend(model, "simulated") for that, and "integer" again afterwards.'
        )


class IntegerDit(IntegerTransformer):
    """A class-conditional DiT, which offers its two parts (`model.forward.InTwoParts`).

    A plain call remembers the modulation of what it has seen.
    """

    _seen: SeenModulations

    @torch.no_grad()
    def modulate(self, timesteps: Real[Tensor, " row"], labels: Int[Tensor, " row"]) -> Modulation:
        """All blocks' modulations of some (timestep, class) pairs; see `forward.modulate`. Nothing is remembered."""
        return self._modulation(self.twin, timesteps, labels)

    @torch.no_grad()
    def predict(
        self, latents: Float[Tensor, "row channel height width"], modulation: Modulation
    ) -> Float[Tensor, "row out_channel height width"]:
        """The output for these latents, the blocks run on integers; see `forward.predict`."""
        return self.step(latents, modulation)

    def forward(
        self,
        hidden_states: Float[Tensor, "row channel height width"],
        timestep: Real[Tensor, "*row"] | None = None,
        class_labels: Int[Tensor, " row"] | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
    ) -> Any:
        """As diffusers' model is called; ``.sample`` is the output.

        Raises:
            ValueError: without timestep or class, or for arguments of the attention, which is compiled.
        """
        if timestep is None or class_labels is None:
            raise ValueError("Expected timestep and class_labels, got None. Pass both, a row of each for every latent.")
        if cross_attention_kwargs:
            self._refuse(f"given cross_attention_kwargs {sorted(cross_attention_kwargs)}")
        timesteps = torch.as_tensor(timestep, device=hidden_states.device).expand(len(hidden_states))
        sample = self.predict(hidden_states, self._seen.batch(self.modulate, timesteps, class_labels))
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)


def as_integer(
    kind: type[IntegerTransformer],
    twin: Any,
    *,
    step: Callable[..., Any],
    runtime: str,
    ptq4dit_record: Any = None,
    _build: Build,
    _modulation: Callable[..., Modulation] = modulate,
) -> Any:
    """An integer transformer around a simulated twin, whose modules and attributes it shares.

    Args:
        kind: `IntegerTransformer`, or `IntegerDit` for a DiT in two parts.
        twin, step, runtime: see `IntegerTransformer`.
        ptq4dit_record: the twin's own if None.
        _build: how to make it again from a twin.
        _modulation: called like `forward.modulate`, by an `IntegerDit`.
    """
    classes: Any = (kind, type(twin))
    made = _class(*classes)
    result = made.__new__(made)
    own = {name: value for name, value in vars(twin).items() if name != "forward"}
    vars(result).update(own, twin=twin, step=step, runtime=runtime, _build=_build, _modulation=_modulation)
    vars(result)["_seen"] = SeenModulations()
    vars(result)["ptq4dit_record"] = ptq4dit_record or twin.ptq4dit_record
    return result.eval()


_CHANGES = (
    *("load_state_dict", "set_attn_processor", "fuse_qkv_projections", "unfuse_qkv_projections"),
    *("load_lora_adapter", "add_adapter", "set_adapter", "set_adapters", "fuse_lora", "set_attention_backend"),
    *("enable_gradient_checkpointing", "enable_forward_chunking", "compile_repeated_blocks", "compile"),
    *("enable_layerwise_casting", "enable_group_offload", "enable_xformers_memory_efficient_attention"),
)
"""Methods of stock classes that change what a forward computes, and here would change nothing."""


@functools.cache
def _class(kind: Any, stock: Any) -> Any:
    def refused(name: str) -> Callable[..., NoReturn]:
        return lambda self, *_, **__: self._refuse(f"changed by {name}")

    methods = {name: refused(name) for name in _CHANGES if hasattr(stock, name)}
    return type(f"Integer{stock.__name__}", (kind, stock), {"__module__": __name__, **methods})


def _kind(transformer: IntegerTransformer) -> type[IntegerTransformer]:
    return IntegerDit if isinstance(transformer, IntegerDit) else IntegerTransformer


def _rebuilt(build: Build, twin: Any, record: Any) -> Any:
    result = build(twin)
    result.ptq4dit_record = record
    return result
