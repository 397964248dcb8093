"""What every contestant is: made once on disk, loaded from there, and then called."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ptq4dit.speed.subject import Inputs, Subject

Call = Callable[[], Tensor]
"""One forward pass."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A contestant that is ready to run.

    Attributes:
        bind: fixes the inputs and returns the call that is timed; compiles for their shape where a runtime does that.
        once: what a whole sampling run needs besides its forward passes: (inputs, steps) -> nothing. None if nothing.
        profile: (inputs, calls) -> where a forward pass's time goes. None if the runtime does not tell.
        transformer: what a sampler runs; None for who does not offer that, or is not set as it is by default.
        note: how the runtime says that it is set, such as the type of what is not an integer product.
    """

    bind: Callable[[Inputs], Call]
    once: Callable[[Inputs, int], None] | None = None
    profile: Callable[[Inputs, int], dict[str, Any]] | None = None
    transformer: Any = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """Someone who runs a DiT.

    Attributes:
        key: short name for ``--only`` and in results.
        name: what tables show.
        label: bits of weights and activations, ``"FP32"``, ``"BF16"``, ``"W8A8"``.
        execution: ``"float"``, or ``"integer"`` for integer matrix products.
        forward: whose forward pass it runs, and how it got it.
        built: name of the folder that is built; who differs only in how it is loaded shares it.
        imports: modules that have to be installed.
        build: writes what is deployed.
        load: (subject, folder that was built, threads) -> ready to run.
        deployed: what of the folder counts as bytes on disk; None for the subject's float weights.
    """

    key: str
    name: str
    label: str
    execution: Literal["float", "integer"]
    forward: str
    built: str
    imports: tuple[str, ...]
    build: Callable[[Subject, Path], None]
    load: Callable[[Subject, Path, int], Loaded]
    deployed: str | None = "."

    def missing(self) -> list[str]:
        """Modules that it needs and that are not installed."""
        return [name for name in self.imports if not _installed(name)]

    def disk_bytes(self, subject: Subject, folder: Path) -> int:
        """Bytes of what is deployed."""
        root = subject.folder / "transformer" if self.deployed is None else folder / self.deployed
        return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def nothing(subject: Subject, folder: Path) -> None:
    """`Contestant.build` of who makes what it runs as it is loaded; with ``deployed=None``, from the float weights."""


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # not even the package that it would be in
        return False
