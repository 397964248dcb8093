"""What judges pictures, and the demo's own: a small CNN whose features and logits stand for Inception's."""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.storage.untrusted import read_untrusted

FEATURES = 128
CLASSES = 10
_SPATIAL_CHANNELS = 7
_SPATIAL_LAYER = 9
"""Layers of the body up to 96 maps of 8x8."""


_BATCH = 50
"""Pictures judged at a time: few enough for Inception's maps."""


@runtime_checkable
class Classifier(Protocol):
    """What judges pictures: `SceneClassifier` the demo's, `inception.Inception` those of ImageNet models.

    Attributes:
        knows_labels: whether its outputs are the model's classes, so that accuracy can be measured.
    """

    knows_labels: bool

    def parameters(self) -> Iterator[nn.Parameter]:
        """Its weights, which say on what device it runs."""
        ...

    def extract(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled features, spatial features and logits of a batch of pictures in [0, 1]."""
        ...


class SceneClassifier(nn.Module):
    """Pictures in [-1, 1], ``(n, 3, 64, 64)`` -> logits ``(n, classes)``."""

    knows_labels = True

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wide_in, wide_out in pairwise([3, 32, 64, 96, FEATURES]):
            layers += [nn.Conv2d(wide_in, wide_out, 3, stride=2, padding=1), nn.GroupNorm(8, wide_out), nn.GELU()]
        layers += [nn.Conv2d(FEATURES, FEATURES, 3, padding=1), nn.GroupNorm(8, FEATURES), nn.GELU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(FEATURES, classes)

    def features(self, picture: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n feature"]:
        """Pooled features before the logits, ``(n, 128)``."""
        return self.body(picture).mean(dim=(2, 3))

    def spatial_features(self, picture: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n feature"]:
        """The first 7 maps of the third stage, averaged to 4x4 and flattened: ``(n, 112)``.

        The counterpart of spatial FID's first 7 channels of an Inception map (Nash et al. 2021).
        """
        maps = self.body[:_SPATIAL_LAYER](picture)[:, :_SPATIAL_CHANNELS]
        return nn.functional.adaptive_avg_pool2d(maps, 4).flatten(1)

    def extract(
        self, pictures: Float[Tensor, "n 3 height width"]
    ) -> tuple[Float[Tensor, "n feature"], Float[Tensor, "n spatial"], Float[Tensor, "n label"]]:
        """Pooled features, spatial features and logits of pictures in [0, 1]."""
        scaled = pictures * 2 - 1
        features = self.features(scaled)
        return features, self.spatial_features(scaled), self.head(features)

    def forward(self, picture: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n label"]:
        """Logits."""
        return self.head(self.features(picture))


def load_classifier(path: str | os.PathLike[str]) -> SceneClassifier:
    """Read the classifier's safetensors file.

    Raises:
        ValueError: if there is no such file, or it holds something else.
    """
    if not Path(path).is_file():
        raise ValueError(f"Expected the classifier's .safetensors file, got {str(path)!r}, which does not exist.")
    state = {name: value.float() for name, value in read_untrusted(Path(path)).items()}
    model = SceneClassifier(len(head) if (head := state.get("head.weight")) is not None and head.ndim else CLASSES)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    if {name: value.shape for name, value in state.items()} != shapes:
        raise ValueError(f"Expected the weights of a scene classifier in {str(path)!r}, got others. Copy it again.")
    model.load_state_dict(state)
    return model.eval()


@torch.inference_mode()
def judge(
    model: Classifier, pictures: Float[Tensor, "n 3 height width"]
) -> tuple[Float[Tensor, "n feature"], Float[Tensor, "n spatial"], Float[Tensor, "n label"]]:
    """Pooled features, spatial features and logits of pictures in [0, 1], a few at a time; on the CPU."""
    device = next((p.device for p in model.parameters()), pictures.device)
    parts = [model.extract(batch.to(device)) for batch in pictures.split(_BATCH)]
    pooled, spatial, logits = (torch.cat(values).cpu() for values in zip(*parts, strict=True))
    return pooled, spatial, logits
