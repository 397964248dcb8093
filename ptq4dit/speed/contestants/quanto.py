"""optimum-quanto's int8: weights and activations, scales observed on the same inputs in its calibration context."""

from pathlib import Path

import torch

from ptq4dit.speed.contestants.contestant import Contestant, Loaded, nothing
from ptq4dit.speed.contestants.openvino_float import calibrate_on
from ptq4dit.speed.contestants.torch_float import STOCK, Plain, calls
from ptq4dit.speed.subject import Subject


def _load(subject: Subject, folder: Path, threads: int) -> Loaded:
    from optimum.quanto import Calibration, freeze, qint8, quantize

    torch.set_num_threads(threads)
    module = Plain(subject.transformer())
    quantize(module, weights=qint8, activations=qint8)
    with Calibration():
        calibrate_on(module, subject)
    freeze(module)
    return calls(module)


INT8 = Contestant(
    key="quanto",
    name="optimum-quanto int8, eager",
    label="W8A8",
    execution="integer",
    forward=STOCK,
    built="quanto",
    imports=("optimum.quanto",),
    build=nothing,
    load=_load,
    deployed=None,
)
"""Not compiled: torch.compile takes minutes with its tensor classes."""
