"""Draw a model's pictures from fixed noise and measure them against full precision and against real ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ptq4dit.benchmark.config import BenchmarkConfig
from ptq4dit.metrics.classifier import Classifier, judge, load_classifier
from ptq4dit.metrics.distribution import class_accuracy, inception_score, precision_recall
from ptq4dit.metrics.frechet import frechet_distance
from ptq4dit.metrics.image import psnr, ssim
from ptq4dit.metrics.pictures import read_pictures
from ptq4dit.model.bundle import Dit
from ptq4dit.sampling.denoise import decode, denoise
from ptq4dit.sampling.prompts import default_prompts
from ptq4dit.storage.tensors import read_tensors

REAL_FORMAT = "ptq4dit-real-features-1"


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """One set of pictures and how sampling came to them.

    Attributes:
        pictures: ``(n, 3, height, width)`` in [0, 1].
        latents: ``(steps, n, ...)`` after every step, in the shape that the model has them.
        labels: ``(n,)``, classes, or numbers of the prompts.
    """

    pictures: Float[Tensor, "n 3 height width"]
    latents: Float[Tensor, "step n *latent"]
    labels: Int[Tensor, " n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """The classifier, and the features of real pictures.

    Attributes:
        classifier: gives features and logits.
        pooled, spatial: features of real pictures.
    """

    classifier: Classifier
    pooled: Float[Tensor, "real feature"]
    spatial: Float[Tensor, "real spatial_feature"]

    @staticmethod
    def load(folder: Path) -> "Judge | None":
        """The judge in a model's folder, or None where there is none; pictures are then only compared with FP's."""
        classifier, real = folder / "classifier" / "model.safetensors", folder / "classifier" / "real.safetensors"
        if not (classifier.is_file() and real.is_file()):
            return None
        tensors, _ = read_tensors(real, REAL_FORMAT, "real features")
        shapes = [tensors[name].ndim for name in ("pooled", "spatial") if name in tensors]
        if shapes != [2, 2]:
            raise ValueError(f"Expected features of every picture in {str(real)!r}, got others. Copy it again.")
        return Judge(
            classifier=load_classifier(classifier),
            pooled=tensors["pooled"].float(),
            spatial=tensors["spatial"].float(),
        )

    @staticmethod
    def of_pictures(folder: Path, size: int, classifier: Classifier) -> "Judge":
        """A judge by real pictures in a folder, such as ImageNet's, and `Inception` or another classifier.

        Raises:
            ValueError: if the folder holds no pictures.
        """
        parts = [judge(classifier, batch)[:2] for batch in read_pictures(folder, size)]
        pooled, spatial = (torch.cat(features) for features in zip(*parts, strict=True))
        return Judge(classifier=classifier, pooled=pooled, spatial=spatial)


BATCH = 16
"""Pictures drawn at a time."""


def draw(model: Dit, config: BenchmarkConfig, seed: int, cancelled: Callable[[], bool] | None = None) -> Drawn:
    """The set of one seed: classes or prompts in turn, an image's noise depending on seed and index only."""
    name, offered = _offered(model, config)
    labels, parts = [index % len(offered) for index in range(config.pictures)], []
    settings: dict[str, Any] = {"steps": config.steps, "guidance_scale": config.guidance_scale, "seed": seed}
    settings |= {"sampler": config.sampler, "cancelled": cancelled}
    for start in range(0, len(labels), BATCH):
        settings[name] = [offered[label] for label in labels[start : start + BATCH]]
        states = denoise(model, **settings, first_index=start)
        latents = torch.stack([state.latents for state in states])
        parts.append((decode(model, latents[-1]).cpu(), latents.cpu()))
    pictures, latents = (torch.cat(values, dim) for dim, values in enumerate(zip(*parts, strict=True)))
    return Drawn(pictures=pictures, latents=latents, labels=torch.tensor(labels))


def _offered(model: Dit, config: BenchmarkConfig) -> tuple[str, Sequence[Any]]:
    """What pictures may be of, and the argument of `denoise` that says it."""
    if not model.text_conditioned:
        return "class_labels", range(model.num_classes)
    return "prompts", config.prompts or default_prompts()


def compare(drawn: Drawn, reference: Drawn, judged: Judge | None) -> dict[str, float | list[float]]:
    """All numbers of one set; those that need a classifier only where there is one.

    ``drift`` is ``|z_q - z| / |z|`` of the latents after the last step, ``drift_by_step`` after every one.
    """
    wrong = (drawn.latents - reference.latents).flatten(1).norm(dim=1) / reference.latents.flatten(1).norm(dim=1)
    result: dict[str, float | list[float]] = {
        "psnr": float(psnr(drawn.pictures, reference.pictures).clamp(max=100).mean()),
        "ssim": float(ssim(drawn.pictures, reference.pictures).mean()),
        "drift": float(wrong[-1]),
        "drift_by_step": [float(f"{value:.4g}") for value in wrong.tolist()],
        "psnr_each": [round(value, 3) for value in psnr(drawn.pictures, reference.pictures).clamp(max=100).tolist()],
    }
    return result if judged is None else {**result, **_judged(drawn, judged)}


def _judged(drawn: Drawn, judged: Judge) -> dict[str, float]:
    pooled, spatial, logits = judge(judged.classifier, drawn.pictures)
    precision, recall = precision_recall(judged.pooled, pooled)
    accuracy = {"class_accuracy": class_accuracy(logits, drawn.labels)} if judged.classifier.knows_labels else {}
    return accuracy | {
        "frechet": frechet_distance(pooled, judged.pooled),
        "spatial_frechet": frechet_distance(spatial, judged.spatial),
        "inception_score": inception_score(logits, splits=1)[0],
        "precision": precision,
        "recall": recall,
    }
