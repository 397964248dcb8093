"""What can be asked of a sampling run: refused at the call, in one sentence, before anything is computed."""

import math
from collections.abc import Sequence
from numbers import Real

from ptq4dit.config.base import is_integer
from ptq4dit.config.calibration import require_guidance
from ptq4dit.model.bundle import Bundle
from ptq4dit.sampling.prompts import Prompts, require_prompts
from ptq4dit.sampling.schedule import SAMPLERS


def require_request(
    model: Bundle,
    class_labels: Sequence[int] | None,
    prompts: Prompts | None,
    steps: int | None,
    guidance_scale: float | None,
    seed: int,
    sampler: str | None,
) -> None:
    """Refuse a request that cannot be sampled, saying what would be accepted.

    Raises:
        ValueError: for the first thing that is wrong.
    """
    _require_condition(model, class_labels, prompts)
    longest = int(model.scheduler.config.get("num_train_timesteps", 1000))
    if steps is not None and (not is_integer(steps, at_least=1) or steps > longest):
        raise ValueError(f"Expected 1 to {longest} sampling steps, got {steps!r}.")
    if guidance_scale is not None:
        _require_guidance(model, guidance_scale)
    if not is_integer(seed, at_least=0):
        raise ValueError(f"Expected an integer seed of at least 0, got {seed!r}.")
    if sampler is not None and model.text_conditioned:
        raise ValueError(
            f"Expected sampler=None for a {model.kind}, which samples with the scheduler of its pipeline, got "
            f"{sampler!r}. Load it with another scheduler instead."
        )
    if sampler is not None and sampler not in SAMPLERS:
        raise ValueError(f"Expected sampler to be one of {sorted(SAMPLERS)} or None for the model's, got {sampler!r}.")


def _require_condition(model: Bundle, class_labels: Sequence[int] | None, prompts: Prompts | None) -> None:
    if class_labels is not None and prompts is not None:
        raise ValueError("Expected class_labels or prompts, got both.")
    if model.text_conditioned:
        if prompts is None:
            given = "neither prompts nor class labels" if class_labels is None else "class labels"
            raise ValueError(f"Expected prompts for a {model.kind}, got {given}.")
        require_prompts(prompts)
        return
    if prompts is not None:
        raise ValueError(f"Expected class_labels for a {model.kind}, which knows classes and no text, got prompts.")
    if class_labels is not None and not isinstance(class_labels, Sequence):
        raise ValueError(
            f"Expected a list of class labels, got {class_labels!r}. Write class_labels=[{class_labels!r}]."
        )
    if class_labels is None or not len(class_labels):
        raise ValueError("Expected at least one class label, got none.")
    for label in class_labels:
        if not is_integer(label, at_least=0) or label >= model.num_classes:
            names = ", ".join(f"{i} {name}" for i, name in list(model.id2label.items())[:20])
            raise ValueError(
                f"Expected class labels from 0 to {model.num_classes - 1}, got {label!r}. The classes are: {names}"
                f"{' ...' if model.num_classes > 20 else ''}."
            )


def _require_guidance(model: Bundle, guidance_scale: float) -> None:
    if not model.text_conditioned:
        require_guidance(guidance_scale)
    elif not isinstance(guidance_scale, Real) or not math.isfinite(guidance_scale) or guidance_scale < 0:
        raise ValueError(f"Expected a finite guidance_scale of at least 0, got {guidance_scale}.")
