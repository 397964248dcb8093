"""What every training recipe needs: a state that a stop does not lose, averaged weights, a rate that decays to zero.

A run has a budget of minutes, resumed runs included, and its learning rate follows the part of them that is spent.
They are the minutes that its threads really worked: on a quiet machine the clock's, while on a busy one a run that has
to wait does not run out of its budget.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from optimizer import Together
from torch import Tensor, nn

SAVE_EVERY, LOG_EVERY = 180.0, 50  # seconds, steps


class Run:
    """A network in training with everything that a stop must not lose.

    Attributes:
        average: the weights' exponential moving average, which is what one uses in the end.
        step, seconds: how far it is.
    """

    def __init__(self, model: nn.Module, optimizer: Together, path: Path, decay: float = 0.999):
        self.model, self.optimizer, self.path, self.decay = model, optimizer, path, decay
        self.average = {name: value.clone() for name, value in model.state_dict().items()}
        self.step, self.seconds, self.log = 0, 0.0, list[dict[str, float]]()
        if path.exists():
            self._load()

    def _load(self) -> None:
        state = torch.load(self.path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.step, self.seconds, self.log = (state[k] for k in ("average", "step", "seconds", "log"))

    def save(self) -> None:
        """Write the whole state, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        state |= {name: getattr(self, name) for name in ("average", "step", "seconds", "log")}
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.path)
        self.path.with_suffix(".log.json").write_text(json.dumps(self.log))

    @torch.no_grad()
    def update_average(self) -> None:
        decay = min(self.decay, (1 + self.step) / (20 + self.step))
        pairs = [(self.average[k], v) for k, v in self.model.state_dict().items() if v.is_floating_point()]
        torch._foreach_lerp_([old for old, _ in pairs], [new for _, new in pairs], 1 - decay)

    def train(self, loss_of: Callable[[], Tensor], minutes: float, peak: float, decay_from: float = 0.6) -> None:
        """Take steps on what `loss_of()` draws until the budget is spent."""
        begun, saved, running = worked_seconds() - self.seconds, time.monotonic(), math.nan
        while (done := (worked_seconds() - begun) / (60 * minutes)) < 1:
            self.optimizer.set_rate(learning_rate(peak, self.step, done, decay_from))
            loss = loss_of()
            loss.backward()
            self.optimizer.step()
            self.step += 1
            self.update_average()
            self.seconds = worked_seconds() - begun
            running = loss.item() if math.isnan(running) else 0.98 * running + 0.02 * loss.item()
            if self.step % LOG_EVERY == 0:
                self.log.append({"step": self.step, "loss": round(running, 5), "minutes": round(self.seconds / 60, 2)})
                print(self.log[-1], flush=True)
            if time.monotonic() - saved > SAVE_EVERY:
                saved = time.monotonic()
                self.save()
        self.save()


def worked_seconds() -> float:
    """How long each of this process's threads has worked, on average."""
    return time.process_time() / torch.get_num_threads()


def learning_rate(peak: float, step: int, done: float, decay_from: float = 0.6, warm_up: int = 100) -> float:
    """Warm-up, constant, then 1 - sqrt decay to zero over the last part of the budget; done: its part spent, 0 to 1."""
    decay = 1.0 if done < decay_from else 1 - math.sqrt((done - decay_from) / (1 - decay_from))
    return peak * min(1.0, (step + 1) / warm_up, decay)
