"""torchao's int8, compiled: dynamic per-token activations, and static ones with scales observed on the same inputs.

Quantized as it is loaded: torchao's own files are pickles.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ptq4dit.speed.contestants.contestant import Contestant, Loaded, nothing
from ptq4dit.speed.contestants.openvino_float import calibrate_on
from ptq4dit.speed.contestants.torch_float import STOCK, Plain, calls
from ptq4dit.speed.subject import Subject


def _dynamic(subject: Subject, folder: Path, threads: int) -> Loaded:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    transformer = subject.transformer()
    quantize_(transformer, Int8DynamicActivationInt8WeightConfig())
    return _compiled(transformer, threads)


def _static(subject: Subject, folder: Path, threads: int) -> Loaded:
    from torchao.quantization import Int8StaticActivationInt8WeightConfig, PerRow, PerTensor, quantize_

    transformer = subject.transformer()
    largest = _observe(Plain(transformer), subject)
    for name, value in largest.items():
        scale = (value / 127).clamp(min=1e-9)
        config = Int8StaticActivationInt8WeightConfig(act_quant_scale=scale, granularity=[PerTensor(), PerRow()])
        quantize_(transformer, config, filter_fn=lambda module, path, chosen=name: path == chosen)
    return _compiled(transformer, threads)


def _observe(module: nn.Module, subject: Subject) -> dict[str, Tensor]:
    """Largest magnitude at the input of every linear, with as many axes as the input has: torchao wants it so."""
    largest: dict[str, Tensor] = {}
    handles = []
    for name, linear in module.get_submodule("transformer").named_modules():
        if isinstance(linear, nn.Linear):

            def look(_: Any, given: tuple[Tensor, ...], name: str = name) -> None:
                value = given[0].abs().amax(dim=tuple(range(given[0].ndim)), keepdim=True)
                largest[name] = torch.maximum(largest.get(name, value), value)

            handles.append(linear.register_forward_pre_hook(look))
    try:
        calibrate_on(module, subject)
    finally:
        for handle in handles:
            handle.remove()
    return largest


def _compiled(transformer: Any, threads: int) -> Loaded:
    import torch._inductor.config as inductor

    torch.set_num_threads(threads)
    torch._dynamo.reset()
    inductor.freezing = True  # what torchao's guide asks for on CPUs: without it the products run in float
    return calls(torch.compile(Plain(transformer), dynamic=False))


DYNAMIC, STATIC = (
    Contestant(
        key=f"torchao-{kind}",
        name=f"torchao int8 {kind}, torch.compile",
        label="W8A8",
        execution="integer",
        forward=STOCK,
        built="torchao",
        imports=("torchao",),
        build=nothing,
        load=load,
        deployed=None,
    )
    for kind, load in (("dynamic", _dynamic), ("static", _static))
)
