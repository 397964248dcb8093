"""What a diffusion transformer is given while it samples: the data that rounding is learned from."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ptq4dit.calibration.run import Cancelled, observed_positions
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.model.bundle import Dit
from ptq4dit.sampling.denoise import denoise, image_generator
from ptq4dit.storage.tensors import read_tensors, write_tensors

_FORMAT = "ptq4dit-trajectories-1"
_TENSORS = ("latents", "timesteps", "labels", "images")
_CLASS_STREAM = 1
"""The stream that chooses an image's class when a model is calibrated, so that both see the same images."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectories:
    """Inputs of the transformer along float sampling runs, on the CPU.

    Attributes:
        config: how they were collected; ``samples_per_timestep`` is the number of images.
        latents: ``(n, channels, height, width)``, noisy latents as the model receives them.
        timesteps: ``(n,)`` training timesteps.
        labels: ``(n,)`` class indices; half of them are the null class when guidance is on.
        images: ``(n,)``, which sampled image an entry belongs to.
    """

    config: CalibrationConfig
    latents: Float[Tensor, "sample channel height width"]
    timesteps: Int[Tensor, " sample"]
    labels: Int[Tensor, " sample"]
    images: Int[Tensor, " sample"]

    def __len__(self) -> int:
        """Number of samples: images times timesteps times halves of guidance."""
        return len(self.latents)

    def take(self, rows: Int[Tensor, " chosen"]) -> "Trajectories":
        """Some of the samples, in the given order."""
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in _TENSORS})

    def pairs(self) -> Int[Tensor, "pair 2"]:
        """Rows of the two halves of guidance, class first, one pair for every image and timestep.

        Raises:
            ValueError: if a half is missing.
        """
        keys = self.timesteps * (int(self.images.max()) + 1) + self.images
        order = keys.argsort(stable=True)
        counts = keys.unique(return_counts=True)[1]
        if not bool((counts == 2).all()):
            raise ValueError(
                "Expected both halves of guidance for every image and timestep, got single samples. Collect with "
                'guidance_scale above 1, or set objective="samples".'
            )
        pairs = order.unflatten(0, (-1, 2))
        return pairs[pairs[:, 0].argsort()]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, atomically."""
        tensors = {name: getattr(self, name) for name in _TENSORS}
        write_tensors(path, tensors, {"config": self.config.to_json()}, _FORMAT)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Trajectories":
        """Read what `save` wrote.

        Raises:
            ValueError: if the file is missing, damaged, or something else.
        """
        tensors, metadata = read_tensors(path, _FORMAT, "trajectories")
        if set(tensors) != set(_TENSORS):
            raise ValueError(f"Expected the tensors {_TENSORS} in {str(path)!r}, got {sorted(tensors)}. Collect again.")
        return Trajectories(config=CalibrationConfig.from_json(metadata["config"]), **tensors)


def collect(
    dit: Dit,
    config: CalibrationConfig | None = None,
    *,
    images: int | None = None,
    timesteps: int | None = None,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Trajectories:
    """Sample images of random classes with a float model and keep what the transformer was given.

    The images are those that `ptq4dit.calibrate` sees with the same config: an image depends on the seed and its index
    only. Both halves of classifier-free guidance are kept. The result is about ``n`` times one image's latents large.

    Args:
        dit: a float bundle.
        config: seed, steps, guidance; None for the defaults.
        images: number of images; None for ``config.samples_per_timestep``.
        timesteps: number of timesteps, spread evenly; None for ``config.timesteps``.
        batch_size: images sampled at a time; changes speed and memory, not the result.
        progress: called with (steps done, steps in all).
        cancelled: asked before every step.

    Raises:
        Cancelled: once ``cancelled`` says True.
    """
    config = config or CalibrationConfig()
    config = dataclasses.replace(
        config,
        samples_per_timestep=images or config.samples_per_timestep,
        timesteps=timesteps or config.timesteps,
    )
    end = config.first_sample + config.samples_per_timestep
    batches = [range(s, min(s + batch_size, end)) for s in range(config.first_sample, end, batch_size)]
    parts: list[Trajectories] = []
    for index, batch in enumerate(batches):
        done = 0
        with _kept_inputs(dit.transformer, observed_positions(config)) as kept:
            for done in _sampled_steps(dit, config, batch, cancelled):
                if progress is not None:
                    progress(index * config.steps + done, len(batches) * config.steps)
        if done < config.steps:
            raise Cancelled("Collecting trajectories was cancelled before its last step.")
        parts += [_part(config, batch, inputs) for inputs in kept]
    return _joined(config, parts)


def _sampled_steps(
    dit: Dit, config: CalibrationConfig, batch: range, cancelled: Callable[[], bool] | None
) -> Iterator[int]:
    generators = [image_generator(config.seed, image, _CLASS_STREAM) for image in batch]
    labels = [int(torch.randint(dit.num_classes, (), generator=generator)) for generator in generators]
    for state in denoise(
        dit, labels, config.steps, config.guidance_scale, config.seed, cancelled=cancelled, first_index=batch.start
    ):
        yield state.step


@contextmanager
def _kept_inputs(transformer: nn.Module, positions: list[int]) -> Iterator[list[tuple[Tensor, Tensor, Tensor]]]:
    """Keep the arguments of the calls whose number is among ``positions``."""
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    calls = 0

    def keep(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal calls
        if calls in positions:
            kept.append((args[0].cpu().clone(), kwargs["timestep"].cpu().clone(), kwargs["class_labels"].cpu().clone()))
        calls += 1

    handle = transformer.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield kept
    finally:
        handle.remove()


def _part(config: CalibrationConfig, batch: range, inputs: tuple[Tensor, Tensor, Tensor]) -> Trajectories:
    latents, timesteps, labels = inputs
    images = torch.tensor(list(batch)).repeat(len(latents) // len(batch))
    return Trajectories(config=config, latents=latents, timesteps=timesteps, labels=labels, images=images)


def _joined(config: CalibrationConfig, parts: list[Trajectories]) -> Trajectories:
    """All parts, ordered by timestep (noisiest first), then half of guidance, then image, whatever the batches were."""
    tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in _TENSORS}
    halves = torch.cat([torch.arange(len(p)) // len(set(p.images.tolist())) for p in parts])
    keys = zip((-tensors["timesteps"]).tolist(), halves.tolist(), tensors["images"].tolist(), strict=True)
    order = torch.tensor([row for row, _ in sorted(enumerate(keys), key=lambda pair: pair[1])])
    return Trajectories(config=config, **{name: tensor[order] for name, tensor in tensors.items()})
