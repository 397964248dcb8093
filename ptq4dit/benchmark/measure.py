"""Draw a model's pictures from fixed noise and measure them against full precision and against real ones."""

from collections.abc import Callable, Mapping, Sequence
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
    starts = range(0, config.pictures, BATCH)
    batches = (range(start, min(start + BATCH, config.pictures)) for start in starts)
    parts = [draw_images(model, config, seed, images, cancelled) for images in batches]
    return Drawn(
        pictures=torch.cat([part.pictures for part in parts]),
        latents=torch.cat([part.latents for part in parts], dim=1),
        labels=torch.cat([part.labels for part in parts]),
    )


def draw_images(
    model: Dit, config: BenchmarkConfig, seed: int, images: range, cancelled: Callable[[], bool] | None = None
) -> Drawn:
    """Some pictures of a set, by their indices in it, drawn at a time."""
    name, offered = _offered(model, config)
    labels = [index % len(offered) for index in images]
    settings: dict[str, Any] = {name: [offered[label] for label in labels]}
    states = denoise(
        model,
        steps=config.steps,
        guidance_scale=config.guidance_scale,
        seed=seed,
        sampler=config.sampler,
        cancelled=cancelled,
        first_index=images.start,
        **settings,
    )
    latents = torch.stack([state.latents for state in states])
    return Drawn(pictures=decode(model, latents[-1]).cpu(), latents=latents.cpu(), labels=torch.tensor(labels))


def _offered(model: Dit, config: BenchmarkConfig) -> tuple[str, Sequence[Any]]:
    """What pictures may be of, and the argument of `denoise` that says it."""
    if not model.text_conditioned:
        return "class_labels", range(model.num_classes)
    return "prompts", config.prompts or default_prompts()


def compare(drawn: Drawn, reference: Drawn, judged: Judge | None) -> dict[str, float | list[float]]:
    """All numbers of one set; see `summary`."""
    return summary([seen(drawn, reference, None if judged is None else judged.classifier)], judged)


def seen(drawn: Drawn, reference: Drawn, classifier: Classifier | None) -> dict[str, Tensor]:
    """All that the numbers of a set need of some of its pictures: a row a picture, or sums over them in float64.

    ``psnr``, ``ssim``, ``labels``: ``(n,)``; ``wrong``, ``right``: ``(steps,)``, squares of the latents' error and of
    the latents; ``pooled``, ``spatial``, ``logits``: ``(n, ...)``, where there is a classifier.
    """
    rows = {
        "psnr": psnr(drawn.pictures, reference.pictures).clamp(max=100),
        "ssim": ssim(drawn.pictures, reference.pictures),
        "wrong": (drawn.latents - reference.latents).double().flatten(1).square().sum(dim=1),
        "right": reference.latents.double().flatten(1).square().sum(dim=1),
        "labels": drawn.labels,
    }
    if classifier is None:
        return rows
    return rows | dict(zip(("pooled", "spatial", "logits"), judge(classifier, drawn.pictures), strict=True))


def summary(parts: Sequence[Mapping[str, Tensor]], judged: Judge | None) -> dict[str, float | list[float]]:
    """All numbers of one set, from what was `seen` of its parts in their order; some only where there is a judge.

    ``drift`` is ``|z_q - z| / |z|`` of the latents after the last step, ``drift_by_step`` after every one.
    """
    each = torch.cat([part["psnr"] for part in parts])
    wrong, right = (torch.stack([part[name] for part in parts]).sum(dim=0) for name in ("wrong", "right"))
    drift = (wrong / right).sqrt()
    result: dict[str, float | list[float]] = {
        "psnr": float(each.mean()),
        "ssim": float(torch.cat([part["ssim"] for part in parts]).mean()),
        "drift": float(drift[-1]),
        "drift_by_step": [float(f"{value:.4g}") for value in drift.tolist()],
        "psnr_each": [round(value, 3) for value in each.tolist()],
    }
    return result if judged is None else {**result, **_judged(parts, judged)}


def _judged(parts: Sequence[Mapping[str, Tensor]], judged: Judge) -> dict[str, float]:
    names = ("pooled", "spatial", "logits", "labels")
    pooled, spatial, logits, labels = (torch.cat([part[name] for part in parts]) for name in names)
    precision, recall = precision_recall(judged.pooled, pooled)
    accuracy = {"class_accuracy": class_accuracy(logits, labels)} if judged.classifier.knows_labels else {}
    return accuracy | {
        "frechet": frechet_distance(pooled, judged.pooled),
        "spatial_frechet": frechet_distance(spatial, judged.spatial),
        "inception_score": inception_score(logits, splits=1)[0],
        "precision": precision,
        "recall": recall,
    }
