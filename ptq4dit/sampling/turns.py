"""Watch a function that cannot be interrupted from outside: each thing that it reports comes out of a generator."""

import contextvars
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack
from queue import SimpleQueue
from typing import TypeVar

import torch

Value = TypeVar("Value")


class Stopped(BaseException):
    """Raised inside the watched function when nobody wants its next value; no ``except Exception`` swallows it."""


def in_turns(run: Callable[[Callable[[Value], None]], None]) -> Generator[Value, None, None]:
    """Each value that ``run(report)`` reports.

    ``run`` has a thread of its own, and works only while somebody waits for the next value: never ahead, never beside
    its reader. Closing the generator does not wait: the next report of ``run`` raises `Stopped` there.

    Args:
        run: calls its argument once for each value. Its exceptions are raised here.
    """
    reports: SimpleQueue[tuple[str, Value | BaseException | None]] = SimpleQueue()
    turns: SimpleQueue[bool] = SimpleQueue()
    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(_work, run, reports, turns, _settings()), daemon=True
    )
    thread.start()
    try:
        while True:
            turns.put(True)
            kind, value = reports.get()
            if kind == "end":
                return
            if isinstance(value, BaseException):
                raise value
            yield value  # type: ignore[misc]
    finally:
        turns.put(False)


def _work(
    run: Callable[[Callable[[Value], None]], None],
    reports: "SimpleQueue[tuple[str, Value | BaseException | None]]",
    turns: "SimpleQueue[bool]",
    settings: Callable[[], ExitStack],
) -> None:
    def report(value: Value) -> None:
        reports.put(("value", value))
        if not turns.get():
            raise Stopped

    try:
        if turns.get():
            with settings():
                run(report)
    except Stopped:
        pass
    except BaseException as error:  # of any kind: it is the reader's, who raises it
        reports.put(("error", error))
    finally:
        reports.put(("end", None))


def _settings() -> Callable[[], ExitStack]:
    """What torch keeps for each thread, to be taken over by another: autocast and the current GPU."""
    kinds = ["cpu", "cuda"] if torch.cuda.is_initialized() else ["cpu"]
    casts = [(kind, torch.get_autocast_dtype(kind)) for kind in kinds if torch.is_autocast_enabled(kind)]
    gpu = torch.cuda.current_device() if "cuda" in kinds else None

    def enter() -> ExitStack:
        if gpu is not None:
            torch.cuda.set_device(gpu)
        stack = ExitStack()
        for kind, dtype in casts:
            stack.enter_context(torch.autocast(kind, dtype))
        return stack

    return enter
