"""Models whose weights stay on disk, or wherever Accelerate's hooks put them, and come to memory module by module."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn


def stream(transformer: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Keep a model's weights in a folder from now on; each module reads its own while it is called, in place.

    Buffers stay in memory.

    Args:
        transformer: on the device that is to run it.
        folder: for the weights, which takes as much room as they do.
    """
    from accelerate import disk_offload

    disk_offload(transformer, folder, execution_device=device_of(transformer))


def stream_buffers(module: nn.Module, folder: str | os.PathLike[str], device: torch.device) -> None:
    """The same for a module without parameters, whose state is its buffers; those that are not saved stay in memory."""
    from accelerate import disk_offload

    disk_offload(module, folder, execution_device=device, offload_buffers=True)


def is_streamed(module: nn.Module) -> bool:
    """Whether the module's own weights are elsewhere until it is called."""
    return _offloading(module) is not None


@contextmanager
def weights(*modules: nn.Module) -> Iterator[None]:
    """Have the modules' own weights in memory, those that are streamed; what is written into them is lost."""
    with ExitStack() as stack:
        for module in modules:
            if (hook := _offloading(module)) is not None:
                hook.pre_forward(module)
                stack.callback(hook.post_forward, module, None)
        yield


def device_of(transformer: nn.Module) -> torch.device:
    """Where a model runs, wherever its weights are."""
    for module in transformer.modules():
        if (hook := _offloading(module)) is not None:
            return torch.device(hook.execution_device)
    return next(transformer.parameters()).device


def _offloading(module: nn.Module) -> Any:
    """Accelerate's hook that brings a module's own weights; None where they are in memory."""
    hook = getattr(module, "_hf_hook", None)
    return next((one for one in getattr(hook, "hooks", (hook,)) if getattr(one, "offload", False)), None)


def parameters(transformer: nn.Module, *, by_name: bool = False) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and values of all parameters, in the model's order or by name; those that are streamed one at a time."""
    names = [name for name, _ in transformer.named_parameters()]
    for name in sorted(names) if by_name else names:
        path, _, own = name.rpartition(".")
        module = transformer.get_submodule(path)
        with weights(module):
            parameter = module._parameters[own]
            assert parameter is not None
            yield name, parameter
