"""A stage of preparing a model, and what all stages are given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptq4dit.calibration.run import Cancelled
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.prepare import PrepareConfig
from ptq4dit.model.bundle import Bundle
from ptq4dit.parallel import Progress

Tell = Callable[[str, int, int], None]
"""Told (stage, pieces of work done, pieces in all)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """What a stage works on.

    Attributes:
        model: the float bundle.
        home: the folder that everything is kept in.
        config: what is asked for.
        stats: its calibration; None before the first stage.
        made: provenance, kept beside every result.
        cancelled: asked between pieces of work.
        progress: told (pieces done, pieces in all).
        show: told how far all processes are with what they share, see `calibrate_in_parts`.
    """

    model: Bundle
    home: Path
    config: PrepareConfig
    made: Mapping[str, Any]
    stats: Calibration | None = None
    cancelled: Callable[[], bool] = field(default=lambda: False)
    progress: Callable[[int, int], None] = field(default=lambda done, total: None)
    show: Callable[[Progress], None] | None = None

    @property
    def calibration(self) -> Calibration:
        """The calibration, which a stage after the first may count on."""
        assert self.stats is not None, "the calibration comes first"
        return self.stats

    def go_on(self) -> None:
        """Raise `Cancelled` once that is asked for; what is finished is kept."""
        if self.cancelled():
            raise Cancelled("Preparing was cancelled; run it again to go on where it stopped.")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One thing that is made of a model.

    Attributes:
        name: for people: ``"calibration"``.
        file: what it leaves in the home, which holds the fingerprint of the model that it is of.
        wanted: whether a config asks for it.
        made: whether the home of some work holds it already, of this very model.
        run: make it, or what is missing of it.
        evaluations: how many steps of sampling one image it takes; 0 for what takes no sampling to speak of.
    """

    name: str
    file: str
    wanted: Callable[[PrepareConfig], bool]
    made: Callable[[Work], bool]
    run: Callable[[Work], None]
    evaluations: Callable[[PrepareConfig], int]
