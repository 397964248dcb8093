"""Models whose weights stay on disk, or wherever Accelerate's hooks put them, and come to memory module by module."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch
from torch import Tensor, nn

from ptq4dit.storage.scratch import HeldFolder


def stream(transformer: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Keep a model's weights in a folder from now on; each module reads its own while it is called, in place.

    Buffers stay in memory.

    Args:
        transformer: on the device that is to run it.
        folder: for the weights, which takes as much room as they do.
    """
    from accelerate import disk_offload

    _forget(folder)
    disk_offload(transformer, folder, execution_device=device_of(transformer))


def stream_buffers(module: nn.Module, folder: str | os.PathLike[str], device: torch.device) -> None:
    """The same for a module without parameters, whose state is its buffers; those that are not saved stay in memory."""
    from accelerate import disk_offload

    _forget(folder)
    disk_offload(module, folder, execution_device=device, offload_buffers=True)


def _forget(folder: str | os.PathLike[str]) -> None:
    """Have what a folder holds written anew: Accelerate takes an index that it finds for that of the same tensors."""
    (Path(folder) / "index.json").unlink(missing_ok=True)


def fetch_buffers(module: nn.Module) -> Path:
    """Undo `stream_buffers`: the module's state is in memory again, and its own.

    Returns:
        The folder that it was in.
    """
    from accelerate.hooks import remove_hook_from_module

    folder = Path(_offloading(module).weights_map.dataset.save_folder)
    remove_hook_from_module(module)
    for name, buffer in module._buffers.items():
        module._buffers[name] = None if buffer is None else buffer.clone()
    return folder


def rewrite(module: nn.Module, name: str, change: Callable[[Tensor], Tensor]) -> None:
    """Put a changed value in the place of one of a module's own parameters.

    One that is streamed stays on disk as it is, and is changed whenever it is read.

    Args:
        module: whose parameter it is.
        name: of the parameter.
        change: makes the new value of the old one, which it leaves as it is.
    """
    if (hook := _offloading(module)) is None:
        parameter = module._parameters[name]
        assert parameter is not None
        parameter.data.copy_(change(parameter.data))
    else:
        hook.weights_map = _Changed(hook.weights_map, name, change)


class _Changed(Mapping[str, Tensor]):
    """The tensors of a streamed module, one of them changed as it is read."""

    def __init__(self, inner: Any, name: str, change: Callable[[Tensor], Tensor]) -> None:
        self.inner, self._name, self._change = inner, name, change

    def __getitem__(self, name: str) -> Tensor:
        value = self.inner[name]
        return self._change(value) if name == self._name else value

    def __iter__(self) -> Iterator[str]:
        return iter(self.inner)

    def __len__(self) -> int:
        return len(self.inner)


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


def any_streamed(transformer: nn.Module) -> bool:
    """Whether some of a model's weights are elsewhere until their module is called."""
    return any(map(is_streamed, transformer.modules()))


def stored_value(transformer: nn.Module, name: str, value: Tensor) -> Tensor:
    """A tensor of a state dict, read where it is streamed: as long as nobody writes to it, it takes no memory."""
    path, _, own = name.rpartition(".")
    hook = _offloading(transformer.get_submodule(path)) if value.is_meta else None
    return value if hook is None else hook.weights_map[own]


def own_folder(transformer: nn.Module) -> Path | None:
    """A new folder beside a streamed model's weights for more that it streams; gone once no copy of the model is left.

    None for a model that is in memory.
    """
    if not any_streamed(transformer):
        return None
    held = HeldFolder(_folder_of(transformer) or Path(gettempdir()), "integers")
    transformer.ptq4dit_folder = held  # type: ignore[assignment]
    return held.path


def _folder_of(transformer: nn.Module) -> Path | None:
    """The folder that a streamed model's weights are in; None if it is not known."""
    for module in transformer.modules():
        hook = _offloading(module)
        tensors = getattr(hook, "weights_map", None)
        while isinstance(tensors, _Changed):
            tensors = tensors.inner
        folder = getattr(getattr(tensors, "dataset", None), "save_folder", None)
        if folder is not None:
            return Path(folder)
    return None
