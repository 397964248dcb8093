"""What every drawing shares: the line in which all wait, how long one may take, and what is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.services.cache import shared
from app.services.loading import QUANTIZED, ModelMissing, opened
from app.services.models import outline
from app.services.request import Request
from app.services.workpiece import Line

if TYPE_CHECKING:
    from ptq4dit import Dit

LONGEST = 180.0  # seconds that one run may draw
DRAWING = Line(width=2, longest=32, what="runs")


def require_subject(request: Request) -> None:
    """Raise ValueError, naming the classes there are, for one that is not among them, and where a prompt is missing.

    Raises ModelMissing for a quantized folder, which has no full precision to compare with.
    """
    about = outline(request.model)
    if about.quantized:
        raise ModelMissing(QUANTIZED)
    if about.prompted:
        if not request.prompt:
            raise ValueError(f"prompt: expected what {request.model} is to draw; got none. Write a few words")
    elif about.known and not 0 <= request.class_id < len(about.labels):
        named = ", ".join(f"{i} {label}" for i, label in enumerate(about.labels[:12]))
        raise ValueError(f"class_id: expected 0 to {len(about.labels) - 1} ({named}); got {request.class_id}")


def subject(model: Dit, request: Request, pictures: int = 1) -> dict[str, Any]:
    """What the engine is asked to draw: the request's class or prompt, so many times, by its sampler."""
    if model.text_conditioned:
        return {"prompts": _encoded(request.model, request.prompt)}
    return {"class_labels": [request.class_id] * pictures, "sampler": request.sampler}


@shared(maxsize=32)
def _encoded(model: str, prompt: str) -> Any:
    """A prompt as the model's text encoders see it, which no rounding of the transformer changes."""
    from ptq4dit.sampling.prompts import encode_prompts

    return encode_prompts(opened(model).bundle, [prompt])
