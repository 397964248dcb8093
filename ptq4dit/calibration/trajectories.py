"""What a diffusion transformer is given while it samples: the data that rounding is learned from."""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from ptq4dit.calibration.joined_calls import Part, join
from ptq4dit.calibration.recorded_calls import AS_LIST, EachSample, Recording, Rows, nested, pick
from ptq4dit.calibration.run import Cancelled, observed_positions, sampled_steps
from ptq4dit.calibration.stored import StoredFile
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.model.bundle import Dit
from ptq4dit.model.families.family import Call
from ptq4dit.storage.tensors import read_tensors, write_tensors

_FORMAT, _CLASSES_ONLY = "ptq4dit-trajectories-2", "ptq4dit-trajectories-1"
_KINDS = ("conditions", "constants")
_OF_CLASSES = {
    "conditions": {"class_labels": {"tensor": 1}},
    "constants": {},
    "names": ["hidden_states", "timestep"],
}
"""What files of the former format hold beside the tensors of every sample."""
_TENSORS = ("latents", "timesteps", "images", "halves")


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectories:
    """Inputs of the transformer along float sampling runs, on the CPU: what it was called with, sample by sample.

    Attributes:
        config: how they were collected; ``samples_per_timestep`` is the number of images.
        latents: ``(n, ...)``, the first argument: noisy latents as the model receives them.
        timesteps: ``(n,)``, whole numbers or not: what the model is given.
        images: ``(n,)``, which sampled image an entry belongs to.
        conditions: every other argument with an entry for each sample: classes, prompts, masks, guidance.
        constants: arguments without: position tables, flags, None.
        halves: ``(n,)``, of guidance: 0 with the image's own condition, 1 without; by the order of the samples if not
            given.
        names: of the first argument and of the timestep.
    """

    config: CalibrationConfig
    latents: Float[Tensor, "sample ..."]
    timesteps: Shaped[Tensor, " sample"]
    images: Int[Tensor, " sample"]
    conditions: Mapping[str, Rows]
    constants: Mapping[str, Any] = field(default_factory=dict)
    halves: Int[Tensor, " sample"] = None  # type: ignore[assignment]
    names: tuple[str, str] = ("hidden_states", "timestep")

    def __post_init__(self) -> None:
        if self.halves is None:
            keys = zip(map(float, self.timesteps.tolist()), self.images.tolist(), strict=True)
            counts: dict[tuple[float, int], int] = {}
            object.__setattr__(self, "halves", torch.tensor([_next(counts, key) for key in keys], dtype=torch.long))

    def __len__(self) -> int:
        """Number of samples: images times timesteps times halves of guidance."""
        return len(self.latents)

    @property
    def labels(self) -> Int[Tensor, " sample"]:
        """``(n,)`` class indices; half of them are the null class when guidance is on.

        Raises:
            ValueError: for a model without classes.
        """
        labels = self.conditions.get("class_labels")
        if not isinstance(labels, Tensor):
            raise ValueError(f"Expected data of a model with classes, got one that is given {sorted(self.conditions)}.")
        return labels

    @property
    def positions(self) -> int:
        """Positions of one sample's latents, channels not counted."""
        channels = self.latents.shape[1 if self.latents.ndim > 3 else -1]
        return self.latents[0].numel() // channels

    def call(self, rows: Int[Tensor, " chosen"] | slice, device: torch.device | None = None) -> Call:
        """The call of the transformer for some samples, on a device if one is given."""
        chosen = torch.arange(len(self))[rows]
        (first, time), constants = self.names, dict(self.constants)
        latents: Any = _on(self.latents[chosen], device)
        if constants.pop(first, None) == AS_LIST:
            latents = list(latents)
        given = {name: _on(pick(value, chosen), device) for name, value in self.conditions.items()}
        fixed = {
            name: [value.value] * len(chosen) if isinstance(value, EachSample) else _on(value, device)
            for name, value in constants.items()
        }
        times = {time: _on(self.timesteps[chosen], device)}
        return Call(args=(latents,), kwargs=nested(times | fixed | given))

    def extremes(self) -> Int[Tensor, " row"]:
        """The samples with the longest and the shortest prompts; none if all are alike."""
        rows: set[int] = set()
        for name, value in self.conditions.items():
            lengths = _lengths(name, value)
            if lengths is not None and int(lengths.min()) < int(lengths.max()):
                rows |= {int(lengths.argmax()), int(lengths.argmin())}
        return torch.tensor(sorted(rows), dtype=torch.long)

    def take(self, rows: Int[Tensor, " chosen"] | Bool[Tensor, " sample"]) -> "Trajectories":
        """Some of the samples, in the given order."""
        chosen = torch.arange(len(self))[rows]
        conditions = {name: pick(value, chosen) for name, value in self.conditions.items()}
        return dataclasses.replace(
            self, conditions=conditions, **{name: getattr(self, name)[chosen] for name in _TENSORS}
        )

    def pairs(self) -> Int[Tensor, "pair 2"]:
        """Rows of the two halves of guidance, class first, one pair for every image and timestep.

        Raises:
            ValueError: if a half is missing.
        """
        moments = self.timesteps.unique(return_inverse=True)[1]
        keys = moments * (int(self.images.max()) + 1) + self.images
        order = (2 * keys + self.halves).argsort(stable=True)
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
        tensors: dict[str, Tensor] = {name: getattr(self, name) for name in _TENSORS}
        values: dict[str, Any] = {
            kind: {name: _packed(f"{kind}/{name}", value, tensors) for name, value in getattr(self, kind).items()}
            for kind in _KINDS
        }
        values["names"] = list(self.names)
        write_tensors(path, tensors, {"config": self.config.to_json(), "arguments": json.dumps(values)}, _FORMAT)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Trajectories":
        """Read what `save` wrote.

        Raises:
            ValueError: if the file is missing, damaged, or something else.
        """
        tensors, metadata = read_tensors(path, (_FORMAT, _CLASSES_ONLY), "trajectories")
        if old := metadata["format"] == _CLASSES_ONLY:
            names = {"labels": "conditions/class_labels"}
            tensors = {names.get(name, name): value for name, value in tensors.items()}
        file = StoredFile("trajectories", os.fspath(path), tensors, metadata)
        values: dict[str, Any] = dict(_OF_CLASSES) if old else file.json("arguments")
        file.require(set(values) == {*_KINDS, "names"}, "names, conditions and constants")
        first = values["names"]
        named = isinstance(first, list) and len(first) == 2 and all(isinstance(name, str) for name in first)
        file.require(named, "two names of arguments")
        needed = [name for name in _TENSORS if not (old and name == "halves")]
        _require_samples(file, needed)
        fields: dict[str, Any] = {name: tensors[name] for name in needed} | {"names": tuple(first)}
        for kind in _KINDS:
            file.require(isinstance(values[kind], dict), f"{kind} by name")
            fields[kind] = {name: _unpacked(f"{kind}/{name}", value, file) for name, value in values[kind].items()}
        for name, value in fields["conditions"].items():
            rows = isinstance(value, Tensor | list) and len(value) == len(tensors["latents"])
            file.require(rows, f"{name} with an entry for every sample")
        return Trajectories(config=file.config(), **fields)


def _require_samples(file: StoredFile, needed: Sequence[str]) -> None:
    """Refuse latents and what is known of each sample that do not fit each other."""
    if missing := sorted(set(needed) - set(file.tensors)):
        raise ValueError(f"Expected the tensors {missing} in {file.path!r}, got {sorted(file.tensors)}. Collect again.")
    file.require_tensors(set(file.tensors))
    latents = file.tensors["latents"]
    file.require(latents.ndim > 1 and latents.numel() > 0, "latents with values")
    for name in needed:
        if name != "latents":
            file.require_shape(name, (len(latents),))
    for name in ("images", "halves"):
        if name in needed:
            file.require_type(name, floating=False)
            low, high = file.tensors[name].aminmax()
            file.require(int(low) >= 0 and int(high) < 2**31, f"{name} counted from 0")


def collect(
    dit: Dit,
    config: CalibrationConfig | None = None,
    *,
    images: int | None = None,
    timesteps: int | None = None,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    prompts: Sequence[str] | None = None,
) -> Trajectories:
    """Sample images with a float model and keep what the transformer was given.

    The images are those that `ptq4dit.calibrate` sees with the same config: an image depends on the seed and its index
    only. Both halves of classifier-free guidance are kept, whether the model is given them in one batch or one after
    the other. The result is about ``n`` times one image's inputs large.

    Args:
        dit: a float bundle.
        config: seed, steps, guidance; None for the defaults.
        images: number of images; None for ``config.samples_per_timestep``.
        timesteps: number of timesteps, spread evenly; None for ``config.timesteps``.
        batch_size: images sampled at a time; changes speed and memory, not the result.
        progress: called with (steps done, steps in all).
        cancelled: asked before every step.
        prompts: for a text-conditioned model, see `ptq4dit.calibrate`.

    Raises:
        Cancelled: once ``cancelled`` says True.
        ValueError: if the model's calls cannot be told apart by image.
    """
    config = config or CalibrationConfig()
    config = dataclasses.replace(
        config,
        samples_per_timestep=images or config.samples_per_timestep,
        timesteps=timesteps or config.timesteps,
    )
    end = config.first_sample + config.samples_per_timestep
    batches = [range(s, min(s + batch_size, end)) for s in range(config.first_sample, end, batch_size)]
    parts: list[Part] = []
    for index, batch in enumerate(batches):
        done = 0
        recording = Recording(transformer=dit.transformer, images=len(batch), positions=observed_positions(config))
        with recording.running():
            for done in sampled_steps(dit, config, batch, prompts, cancelled):
                if progress is not None:
                    progress(index * config.steps + done, len(batches) * config.steps)
        if done < config.steps:
            raise Cancelled("Collecting trajectories was cancelled before its last step.")
        parts += [Part(step=step, half=half, images=batch, call=call) for step, half, call in recording.kept]
    return Trajectories(config=config, **join(parts))


def _next(counts: dict[tuple[float, int], int], key: tuple[float, int]) -> int:
    counts[key] = counts.get(key, -1) + 1
    return counts[key]


def _on(value: Any, device: torch.device | None) -> Any:
    """A value with its tensors on a device, if one is given."""
    if device is None:
        return value
    if isinstance(value, list | tuple):
        return type(value)(_on(one, device) for one in value)
    return value.to(device) if isinstance(value, Tensor) else value


def _lengths(name: str, value: Rows) -> Int[Tensor, " sample"] | None:
    """How long each sample's entry is: tensors of a list, or what a mask leaves; None for what has no length."""
    if isinstance(value, list):
        return torch.tensor([len(one) for one in value])
    return value.long().sum(1) if "mask" in name and value.ndim == 2 else None


def _packed(name: str, value: Any, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON, its tensors put beside it under names."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": 1}
    if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor):
        tensors |= {f"{name}/{i}": one for i, one in enumerate(value)}
        return {"tensors": len(value), "tuple": isinstance(value, tuple)}
    return {"each": value.value} if isinstance(value, EachSample) else {"value": value}


def _unpacked(name: str, value: Any, file: StoredFile) -> Any:
    """What `_packed` was given."""
    kind = next(iter(value), None) if isinstance(value, dict) else None
    if kind == "tensor":
        file.require(name in file.tensors, f"the tensor {name!r}")
        return file.tensors[name]
    if kind == "tensors":
        count = value["tensors"]
        file.require(isinstance(count, int) and 0 < count <= len(file.tensors), f"as many tensors {name!r}")
        file.require(all(f"{name}/{i}" in file.tensors for i in range(count)), f"the tensors {name!r}")
        parts = [file.tensors[f"{name}/{i}"] for i in range(count)]
        return tuple(parts) if value.get("tuple") else parts
    file.require(kind in ("each", "value"), f"a value of {name!r}")
    return EachSample(value["each"]) if kind == "each" else value["value"]
