"""How much each site's rounding shows, as the model is: which layers a person should look at first."""

import dataclasses

from ptq4dit.config.prepare import PrepareConfig
from ptq4dit.config.sensitivity import Sensitivity
from ptq4dit.methods.sensitivity import sensitivity
from ptq4dit.prepare.stage import Stage, Work
from ptq4dit.storage.home import SENSITIVITY
from ptq4dit.storage.provenance import same_model

BITS = (4, 8)
SAMPLES, IMAGES = 16, 4
"""Of the model's calls that are compared, and of the pictures that they are of."""


def _made(work: Work) -> bool:
    file = work.home / SENSITIVITY
    try:
        return file.is_file() and same_model(Sensitivity.load(file).model, work.calibration.model)
    except ValueError:
        return False


def _run(work: Work) -> None:
    found = sensitivity(
        work.model, work.calibration, bits=BITS, samples=SAMPLES, progress=work.progress, cancelled=work.cancelled
    )
    made = dict(work.made) | {"backend": "simulated", "model_fingerprint": found.model}
    dataclasses.replace(found, made=made).save(work.home / SENSITIVITY)


def _evaluations(config: PrepareConfig) -> int:
    """Without those of the sites, whose number a config does not know: sampling what they are compared on."""
    return IMAGES * config.calibration.steps


STAGE = Stage(
    name="sensitivity",
    file=SENSITIVITY,
    wanted=lambda config: config.sensitivity,
    made=_made,
    run=_run,
    evaluations=_evaluations,
)
