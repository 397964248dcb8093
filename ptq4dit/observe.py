"""Calibrate: sample real trajectories and watch the inputs of every quantized layer, in constant memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ptq4dit.calibration import Calibration, layer_weight_salience, to_half
from ptq4dit.config import CalibrationConfig
from ptq4dit.dit import Dit
from ptq4dit.fingerprint import fingerprint
from ptq4dit.linears import balanced_layers
from ptq4dit.sampling import denoise, image_generator, make_scheduler

_CLASS_STREAM, _ROW_STREAM = 1, 2


class Cancelled(RuntimeError):
    """Raised when the caller asked to stop before the result was complete."""


def calibrate(
    dit: Dit,
    config: CalibrationConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    *,
    batch_size: int = 8,
) -> Calibration:
    """Observe a float model while it samples images of random classes, with guidance (both halves are seen).

    Memory grows with layers, timesteps and kept rows, not with the number of samples. An image's class, noise and kept
    rows depend on the seed and its index only, so `Calibration.merge` of disjoint ranges equals one long calibration.

    Deviation: ranges are exact per-channel extremes and a bounded sample of rows, instead of all stored inputs.

    Args:
        dit: a float bundle.
        config: what to observe; None for the defaults.
        progress: called with (steps done, steps in all) after every denoising step.
        cancelled: asked before every step.
        batch_size: images sampled at a time; changes speed and memory, not the result.

    Raises:
        Cancelled: once ``cancelled`` says True.
        ValueError: if the model is quantized already, or its activations are not finite.
    """
    config = config or CalibrationConfig()
    recorder = Recorder(dit.transformer, config)
    end = config.first_sample + config.samples_per_timestep
    starts = range(config.first_sample, end, batch_size)
    with recorder.watching(dit.transformer):
        for batch, start in enumerate(starts):
            images = range(start, min(start + batch_size, end))
            done = 0
            for done in _trajectory(dit, config, recorder, images, cancelled):
                if progress is not None:
                    progress(batch * config.steps + done, len(starts) * config.steps)
            if done < config.steps:
                raise Cancelled("Calibration was cancelled before its last step.")
    return recorder.result(dit)


def observed_positions(config: CalibrationConfig) -> list[int]:
    """Positions in the sampling loop, 0-based, that are observed: evenly spread, first and last included."""
    if config.timesteps == 1:
        return [config.steps // 2]
    return torch.linspace(0, config.steps - 1, config.timesteps, dtype=torch.float64).round().int().tolist()


class Recorder:
    """Running per-channel extremes and a bounded uniform sample of rows, per layer and observed timestep.

    Every token gets a random key; the rows with the highest keys so far are kept. The keys are drawn before a forward
    pass, so all layers keep the same tokens.
    """

    def __init__(self, transformer: nn.Module, config: CalibrationConfig) -> None:
        self.config = config
        self.layers = balanced_layers(transformer)
        self.timesteps: list[int] = []
        self._low: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        self._high: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        self._rows: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        self._keys: list[Tensor] = []
        self._position: int | None = None
        self._candidates = self._kept = torch.empty(0, dtype=torch.long)

    def expect(self, position: int | None, keys: Tensor | None = None) -> None:
        """Say which observed timestep the next forward pass belongs to (None: not observed), and its tokens' keys."""
        self._position = position
        if position is None or keys is None:
            return
        limit = self.config.rows_per_timestep
        candidate_keys, self._candidates = keys.topk(min(limit, len(keys)))
        before = self._keys[position] if position < len(self._keys) else keys[:0]
        pool = torch.cat([before, candidate_keys])
        kept_keys, self._kept = pool.topk(min(limit, len(pool)))
        self._keys[position : position + 1] = [kept_keys]

    @contextmanager
    def watching(self, transformer: nn.Module) -> Iterator[None]:
        """Hook the layers' inputs; the hooks are removed whatever happens."""
        hooks = [
            layer.linears[0].register_forward_pre_hook(lambda _, args, name=name: self._observe(name, args[0]))
            for name, layer in balanced_layers(transformer).items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _observe(self, name: str, x: Tensor) -> None:
        position = self._position
        if position is None:
            return
        tokens = x.detach().reshape(-1, x.shape[-1])
        dtype = torch.promote_types(x.dtype, torch.float32)
        low, high = tokens.amin(dim=0).to("cpu", dtype), tokens.amax(dim=0).to("cpu", dtype)
        rows = tokens[self._candidates.to(tokens.device)].cpu()
        if position < len(self._low[name]):
            low = torch.minimum(low, self._low[name][position])
            high = torch.maximum(high, self._high[name][position])
            rows = torch.cat([self._rows[name][position], rows])
        self._low[name][position : position + 1] = [low]
        self._high[name][position : position + 1] = [high]
        self._rows[name][position : position + 1] = [rows[self._kept]]

    def result(self, dit: Dit) -> Calibration:
        """The statistics gathered so far."""
        for name, lows in self._low.items():
            if not (torch.isfinite(torch.stack(lows)).all() and torch.isfinite(torch.stack(self._high[name])).all()):
                raise ValueError(f"Expected finite activations, got others into {name}. Load with dtype=torch.float32.")
        return Calibration(
            config=self.config,
            model=fingerprint(dit.transformer),
            timesteps=torch.tensor(self.timesteps),
            activation_min={name: torch.stack(rows) for name, rows in self._low.items()},
            activation_max={name: torch.stack(rows) for name, rows in self._high.items()},
            weight_salience={name: s.cpu() for name, s in layer_weight_salience(dit.transformer).items()},
            samples={name: to_half(torch.stack(rows)) for name, rows in self._rows.items()},
            sample_keys=torch.stack(self._keys),
        )


def _trajectory(
    dit: Dit, config: CalibrationConfig, recorder: Recorder, images: range, cancelled: Callable[[], bool] | None
) -> Iterator[int]:
    """Sample these images, telling the recorder what each forward pass is; yields the number of steps done."""
    positions = {step: position for position, step in enumerate(observed_positions(config))}
    recorder.timesteps = make_scheduler(dit, config.steps, None).timesteps[list(positions)].tolist()

    def announce(step: int) -> None:
        position = positions.get(step)
        recorder.expect(position, None if position is None else _row_keys(dit, config, images, position))

    labels = [_random_class(dit, config, image) for image in images]
    announce(0)
    for state in denoise(
        dit, labels, config.steps, config.guidance_scale, config.seed, cancelled=cancelled, first_index=images.start
    ):
        announce(state.step)
        yield state.step


def _random_class(dit: Dit, config: CalibrationConfig, image: int) -> int:
    generator = image_generator(config.seed, image, _CLASS_STREAM)
    return int(torch.randint(dit.num_classes, (), generator=generator))


def _row_keys(dit: Dit, config: CalibrationConfig, images: range, position: int) -> Tensor:
    """One random key per token of the batch, in the batch's order: halves of guidance, images, tokens."""
    halves = 2 if config.guidance_scale > 1 else 1
    tokens = (dit.latent_shape[1] // int(dit.config.patch_size)) ** 2
    keys = [
        torch.rand(
            halves, tokens, dtype=torch.float64, generator=image_generator(config.seed, i, _ROW_STREAM, position)
        )
        for i in images
    ]
    return torch.stack(keys, dim=1).flatten()
