"""Processes of one job: which units each of them does, and the folder where finished units wait for the rest.

A job is a list of units in a fixed order, each of which leaves one file and depends on nothing but the job's settings
and its own name. Who made a file does not show in it, so the result is the same for any number of processes, and
whoever starts the job again, with however many, goes on with the units that are missing.

Launched by ``torchrun`` or ``accelerate launch``; Hugging Face Accelerate brings the processes together. They share
the job's folder, over several machines too.
"""

import functools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from ptq4dit.storage.json_file import read_json, write_json
from ptq4dit.storage.memory import held_bytes

_SETTINGS, _UNFINISHED = "job.json", ".unfinished-"
_PATIENCE = timedelta(days=30)
"""How long processes wait for each other's last unit; a dead one ends the job at once, by its launcher."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes of this job, as one of them sees them.

    Attributes:
        rank: which one this is, from 0.
        count: how many there are.
        local: which one this is on its machine.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process puts the result together."""
        return self.rank == 0

    def part(self, units: Sequence[Any]) -> Sequence[Any]:
        """This process's share: every ``count``-th one."""
        return units[self.rank :: self.count]

    def device(self, device: str) -> str:
        """``"cuda"`` is another GPU for each process of a machine; anything else is what it says."""
        return f"cuda:{self.local}" if device == "cuda" and self.count > 1 else device

    def own(self, folder: Path) -> Path:
        """A folder, or this process's in it where there are several."""
        return folder / f"process-{self.rank}" if self.count > 1 else folder

    def agree(self, value: Any) -> Any:
        """The first process's value, in all of them; waits for it."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def wait(self) -> None:
        """Go on once all are here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


@functools.cache
def processes() -> Processes:
    """The processes that were launched together; one, where this was started by itself."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
    return Processes(rank=state.process_index, count=state.num_processes, local=state.local_process_index)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a job is.

    Attributes:
        done, total: units, those of all processes together.
        seconds_left: by the rate so far, on the processes that work; infinite before the first unit.
        bytes: what one finished unit takes on disk; 0 before the first.
        memory: the most that this process has held so far, in bytes; 0 where the system does not say.
    """

    done: int
    total: int
    seconds_left: float
    bytes: int
    memory: int


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a job left.

    Attributes:
        files: in the units' order.
        progress: how far all processes are, and what this one's units took.
    """

    files: list[Path]
    progress: Progress


@dataclass(frozen=True, kw_only=True)
class Job:
    """Units of work, and where their files are.

    Attributes:
        folder: of the files; all processes reach it.
        settings: all that the files depend on, as JSON holds it: files of others are not mixed in.
        units: their names, in the order in which the result takes them.
    """

    folder: Path
    settings: Mapping[str, Any]
    units: Sequence[str]

    def run(
        self,
        make: Callable[[str, Path], None],
        show: Callable[[Progress], None] | None = None,
        *,
        only_first: bool = False,
    ) -> Taken:
        """Make the files that are not there yet, each by one of the processes.

        Args:
            make: ``make(unit, file)`` writes a unit's file.
            show: told by the first process how far all are, after each of its units.
            only_first: stop after one unit, to know what the whole would take.

        Returns:
            The files, which with ``only_first`` need not all be there, and the progress.

        Raises:
            ValueError: if the folder holds units of other settings.
        """
        here, missing = processes(), self.claim()
        begun, waiting = time.monotonic(), set(missing)
        with self._nothing_for_nothing():
            for unit in here.part(missing[:1] if only_first else missing):
                file = self._file(unit)
                partial = file.with_name(f"{_UNFINISHED}{here.rank}-{file.name}")
                make(unit, partial)
                os.replace(partial, file)
                if show is not None and here.first:
                    show(self._progress(waiting, begun))
        here.wait()
        progress = here.agree(self._progress(waiting, begun, here.count if only_first else 1) if here.first else None)
        return Taken(files=[self._file(unit) for unit in self.units], progress=progress)

    def claim(self) -> list[str]:
        """The units that are missing, after a look at what the folder is of, in all processes.

        Raises:
            ValueError: if it holds units of other settings.
        """
        here = processes()
        missing: list[str] | str = here.agree(self._found() if here.first else None)
        if isinstance(missing, str):
            raise ValueError(missing)
        return missing

    def clear(self, *patterns: str) -> None:
        """Remove what is the job's, once the result is written; the folder, too, unless it holds other files.

        Args:
            patterns: of further files that are the job's.
        """
        more = [file for pattern in patterns for file in self.folder.glob(pattern) if file.is_file()]
        for file in (self.folder / _SETTINGS, *self._unfinished(), *map(self._file, self.units), *more):
            file.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    @contextmanager
    def _nothing_for_nothing(self) -> Iterator[None]:
        """Leave no folder behind where the only process is stopped before its first unit is done."""
        try:
            yield
        except BaseException:
            if processes().count == 1 and not any(self._file(unit).is_file() for unit in self.units):
                self.clear()
            raise

    def _found(self) -> list[str] | str:
        """The missing units, or why there is no going on: all processes have to hear it."""
        try:
            return self._missing()
        except (ValueError, OSError) as error:
            return str(error)

    def _missing(self) -> list[str]:
        """Units without a file, after a look at what the folder is of; what killed processes left is swept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        known, mine = read_json(self.folder / _SETTINGS), json.loads(json.dumps(self.settings))
        for name in sorted(known.keys() | mine.keys()) if known else ():
            if known.get(name) != mine.get(name):
                raise ValueError(
                    f"Expected {name}={_short(known.get(name))}, as of the parts in {str(self.folder)!r}, got "
                    f"{_short(mine.get(name))}. Ask for the same, or remove that folder."
                )
        if not known:
            write_json(self.folder / _SETTINGS, mine)
        for left in self._unfinished():
            left.unlink()
        return [unit for unit in self.units if not self._file(unit).is_file()]

    def _progress(self, waiting: Set[str], begun: float, idle: int = 1) -> Progress:
        """How far all are.

        Args:
            waiting: the units that were missing in the beginning.
            begun: when that was.
            idle: how many times as many processes will work as have worked.
        """
        there = [file for unit in self.units if (file := self._file(unit)).is_file()]
        new = sum(self._file(unit).is_file() for unit in waiting)
        left = len(self.units) - len(there)
        each = (time.monotonic() - begun) / new if new else math.inf
        return Progress(
            done=len(there),
            total=len(self.units),
            seconds_left=each * left / idle if left else 0.0,
            bytes=there[0].stat().st_size if there else 0,
            memory=held_bytes().get("VmHWM", 0),
        )

    def _unfinished(self) -> list[Path]:
        """What processes that were stopped had begun of these units."""
        names = set(self.units)
        return [path for path in self.folder.glob(f"{_UNFINISHED}*-*") if path.name.split("-", 2)[2] in names]

    def _file(self, unit: str) -> Path:
        return self.folder / unit


def _short(value: Any, most: int = 60) -> str:
    """A setting, as a message shows it."""
    text = json.dumps(value)
    return text if len(text) <= most else f"{text[:most]}..."


def ranges(count: int, size: int, first: int = 0) -> dict[str, range]:
    """Images in units of ``size``, by the name of a unit: their limits do not depend on the number of processes."""
    starts = range(first, first + count, size)
    units = (range(start, min(start + size, first + count)) for start in starts)
    return {f"images-{unit.start:06d}-{unit.stop:06d}.safetensors": unit for unit in units}
