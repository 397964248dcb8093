"""What is made ready behind the first page, so that nobody waits for it later."""

from __future__ import annotations

import time
from threading import Timer

from app.services import generation, loading, models, payloads, shelf
from app.services.fitting import opening

HEAD_START = 2.0  # seconds that the first page has the processor for itself before torch is imported
PAUSE = 0.2  # seconds between two layers, left to visitors
MOST_LAYERS = 64  # drawn ahead; of a larger model the others are worked out as they are opened


def warm_up_later() -> None:
    """Begin to warm up once the first page has had the processor."""
    timer = Timer(HEAD_START, warm_up)
    timer.daemon = True
    timer.start()


def warm_up() -> None:
    """Load torch and the first model, make the variants of Compare, then what Inspect draws at the default bits."""
    start = opening(shelf.first().name)
    try:
        layers = models.explored(start.model).stats.layers
    except loading.ModelMissing:
        return  # whoever asks for the model is told what to do
    generation.prepare(start)
    payloads.overview_payload(start.model, start.strength)
    small = payloads.is_small(start.model)
    for layer in layers[:MOST_LAYERS]:
        payloads.layer_payload(start.model, layer, start.strength)
        if small:
            payloads.effect_payload(start.model, layer, *start.rounding)
        time.sleep(PAUSE)
