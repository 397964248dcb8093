"""What a contestant's arithmetic costs in quality: on inputs that the model meets while it draws, and in pictures."""

from collections import deque
from typing import Any

import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.metrics.image import psnr
from ptq4dit.metrics.interval import mean_interval
from ptq4dit.sampling.denoise import decode, denoise
from ptq4dit.speed.config import SpeedConfig
from ptq4dit.speed.contestants.contestant import Loaded
from ptq4dit.speed.exact import exact_output, relative_error
from ptq4dit.speed.images import drawing_bundle
from ptq4dit.speed.subject import Inputs, Subject

_EQUAL_DB = 120.0
"""Pictures that differ by less than float32's rounding of them count as this far apart."""


class Judge:
    """Compares contestants on one model: outputs with the float64 ones, pictures with those of the first that came."""

    def __init__(self, config: SpeedConfig, subject: Subject) -> None:
        self._config, self._own = config, subject.own_inputs()
        self._rows = max(config.batches)
        self._exact = None if self._own is None else exact_output(subject, self._own)
        self._float = drawing_bundle(config, subject) if config.pictures else None
        self._reference: Tensor | None = None

    @property
    def asked(self) -> bool:
        """Whether there is anything to tell: of random weights, and without pictures, there is not."""
        return self._own is not None or self._float is not None

    def of(self, loaded: Loaded) -> dict[str, Any]:
        """``own_error``, relative, of a trained model; ``psnr``, mean with its 95% interval, if pictures are asked for.

        The first one asked about is the reference of the pictures and has no ``psnr``.
        """
        found: dict[str, Any] = {}
        if self._own is not None and self._exact is not None:
            outputs = [loaded.bind(part)().float() for part in self._own.split(self._rows)]
            found["own_error"] = relative_error(torch.cat(outputs), self._exact)
        if self._float is None:
            return found
        pictures = self._pictures(loaded)
        if self._reference is None:
            self._reference = pictures
            return found
        apart = mean_interval(psnr(pictures, self._reference).clamp(max=_EQUAL_DB).tolist())
        return found | {"psnr": {name: round(getattr(apart, name), 2) for name in ("mean", "low", "high")}}

    def _pictures(self, loaded: Loaded) -> Float[Tensor, "picture 3 height width"]:
        """Classes in turn; as many at a time as fill the largest batch, so that nothing is compiled for another."""
        config, model = self._config, self._float
        assert model is not None
        model = model.with_transformer(_Called(loaded, model.transformer))
        at_once, drawn = max(1, self._rows // config.rows_per_image), []
        for first in range(0, config.pictures, at_once):
            labels = [index % model.num_classes for index in range(first, first + at_once)]
            states = denoise(model, labels, config.steps, config.guidance_scale, config.seed, first_index=first)
            drawn.append(decode(model, deque(states, maxlen=1)[0].latents))
        return torch.cat(drawn)[: config.pictures]


class _Called(nn.Module):
    """A contestant as a sampler calls a transformer; the float one lends its config and type."""

    def __init__(self, loaded: Loaded, lender: Any) -> None:
        super().__init__()
        self._loaded, self.lender, self.config = loaded, lender, lender.config

    def forward(self, latents: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        inputs = Inputs(latents=latents, timesteps=timestep.long(), labels=class_labels)
        return Transformer2DModelOutput(sample=self._loaded.bind(inputs)().float())
