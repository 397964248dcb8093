"""The stored examples: pictures of every variant from the same noise as full precision's, and means over more of them.

All of it is simulated quantization. Saved after each model; run again, it goes on where it stopped.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from torch import Tensor, cat

from ptq4dit.config.balancing import VARIANTS
from ptq4dit.config.prepare import PrepareConfig
from ptq4dit.config.quantization import PER_TOKEN, QuantConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.metrics.image import psnr, ssim
from ptq4dit.model.bundle import Bundle
from ptq4dit.prepare.stage import Stage, Work
from ptq4dit.salience_dial import amplification_factors, amplify_salience
from ptq4dit.sampling.denoise import generate
from ptq4dit.sampling.prompts import default_prompts
from ptq4dit.storage.home import RESULTS
from ptq4dit.storage.json_file import read_json, update

FORMAT = 1
FILE = f"{RESULTS}/results.json"
BATCH = 16

Subject = int | str
"""A class, or a prompt."""


class Examples:
    """One run: the models, how pictures are made, and the results so far."""

    def __init__(self, work: Work, chosen: Sequence[tuple[Subject, int]] | None = None) -> None:
        """Read what is there.

        Args:
            work: see `Work`.
            chosen: (class or prompt, seed) of each example; spread over all of the model's if None.
        """
        self.work, self.config, self.model = work, work.config, work.model
        self.chosen = list(chosen or subjects(self.model, self.config))
        self.out = work.home / RESULTS
        self.file, self.unfinished = work.home / FILE, self.out / "results.unfinished.json"
        self.results = self._resumed()

    @property
    def complete(self) -> bool:
        """Whether the file holds all of it."""
        wanted = {key for key, _, _ in jobs(self.config)}
        return self.file.is_file() and wanted <= set(self.results["means"])

    def run(self) -> None:
        """Full precision, then one quantized model after the other; saved after each, shown once all are there."""
        wanted = list(jobs(self.config))
        references = [self._draw(self.model, [subject], seed) for subject, seed in self.chosen]
        reference_set = self._draw_set(self.model)
        for entry, picture in zip(self.results["examples"], references, strict=True):
            entry["full_precision"] = {"file": self._write(picture, entry, "fp")}
        for done, (key, strength, config) in enumerate(wanted):
            self.work.progress(done, len(wanted))
            if key in self.results["means"]:
                continue
            quantized = self._quantized(strength, config)
            for entry, (subject, seed), reference in zip(
                self.results["examples"], self.chosen, references, strict=True
            ):
                picture = self._draw(quantized, [subject], seed)
                entry["quantized"][key] = {"file": self._write(picture, entry, key), **distance(picture, reference)}
            mean = distance(self._draw_set(quantized), reference_set)
            self.results["means"][key] = mean | {"pictures": self.config.pictures}
            self.results = update(self.unfinished, self._joined)
        self.results = update(self.file, self._joined)
        self.unfinished.unlink(missing_ok=True)
        self._remove_others()
        self.work.progress(len(wanted), len(wanted))

    def _quantized(self, strength: int, config: QuantConfig) -> Bundle:
        """The model with its salience raised, function unchanged, then quantized."""
        self.work.go_on()
        stats = self.work.calibration
        if strength == 1:
            return quantize(self.model, stats, config, cancelled=self.work.cancelled)
        factors = amplification_factors(self.model.transformer, float(strength))
        raised = amplify_salience(self.model, float(strength))
        return quantize(raised, stats.rescaled_for(factors, raised.transformer), config)

    def _draw(self, model: Bundle, chosen: Sequence[Subject], seed: int) -> Tensor:
        """(n, 3, height, width) in [0, 1]."""
        self.work.go_on()
        what: dict[str, Any] = {"prompts" if model.text_conditioned else "class_labels": list(chosen)}
        return generate(model, steps=self.config.steps, guidance_scale=self.config.guidance_scale, seed=seed, **what)

    def _draw_set(self, model: Bundle) -> Tensor:
        """The pictures behind a mean: all classes or prompts in turn, a seed for each batch."""
        known = known_subjects(model, self.config)
        chosen = [known[i % len(known)] for i in range(self.config.pictures)]
        batches = [chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]
        return cat([self._draw(model, batch, self.config.mean_seed + i) for i, batch in enumerate(batches)])

    def _write(self, picture: Tensor, entry: dict[str, Any], key: str) -> str:
        """Store a picture losslessly; its path relative to the results."""
        from PIL import Image

        pixels = (picture[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        path = self.out / _folder(entry) / (key.replace("/", "-").replace("+", "-") + ".webp")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        Image.fromarray(pixels).save(partial, format="webp", lossless=True, quality=100, method=6)
        os.replace(partial, path)
        return path.relative_to(self.out).as_posix()

    def _resumed(self) -> dict[str, Any]:
        """The results so far where they were made in the same way from the same model, else none yet."""
        for file in (self.unfinished, self.file):
            old = read_json(file)
            if self._alike(old):
                return old
        examples = [self._entry(number, subject, seed) for number, (subject, seed) in enumerate(self.chosen)]
        return {"format": FORMAT, "made": dict(self.work.made) | self._setting(), "examples": examples, "means": {}}

    def _setting(self) -> dict[str, Any]:
        """What all numbers rest on."""
        return {
            "backend": "simulated",
            "model_fingerprint": self.work.calibration.model,
            "sampler": type(self.model.scheduler).__name__,
            "steps": self.config.steps,
            "guidance_scale": self.config.guidance_scale,
            "pictures": self.config.pictures,
            "mean_seed": self.config.mean_seed,
            "examples": [list(example) for example in self.chosen],
        }

    def _alike(self, held: Mapping[str, Any]) -> bool:
        """Whether results were made in the same way from the same model; nothing was not."""
        made = held.get("made")
        return isinstance(made, dict) and all(made.get(name) == value for name, value in self._setting().items())

    def _joined(self, held: dict[str, Any]) -> dict[str, Any]:
        """These results and those of the same setting that a file holds, which another process may have added to."""
        if not self._alike(held):
            return self.results
        examples = [
            entry | {"quantized": old["quantized"] | entry["quantized"]}
            for old, entry in zip(held["examples"], self.results["examples"], strict=True)
        ]
        return self.results | {"examples": examples, "means": held["means"] | self.results["means"]}

    def _entry(self, number: int, subject: Subject, seed: int) -> dict[str, Any]:
        if isinstance(subject, str):
            return {"prompt": subject, "seed": seed, "folder": f"prompt-{number}-{seed}", "quantized": {}}
        name = self.model.id2label[subject]
        folder = f"{subject}-{re.sub('[^a-zA-Z0-9]+', '-', name)[:40]}-{seed}"
        return {"class_id": subject, "class_name": name, "seed": seed, "folder": folder, "quantized": {}}

    def _remove_others(self) -> None:
        """Remove pictures of examples that are no more."""
        examples = self.results["examples"]
        pictures = [entry["full_precision"] for entry in examples]
        pictures += [picture for entry in examples for picture in entry["quantized"].values()]
        used = {self.out / picture["file"] for picture in pictures}
        for path in set(self.out.glob("*/*.webp")) - used:
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()


def _folder(entry: dict[str, Any]) -> str:
    """Where an example's pictures are; older files do not say, and use its name."""
    return str(entry.get("folder") or f"{entry['class_name']}-{entry['seed']}".replace(" ", "-"))


def subjects(model: Bundle, config: PrepareConfig) -> list[tuple[Subject, int]]:
    """(class or prompt, seed) of the examples, spread over all that the model knows."""
    known = known_subjects(model, config)
    count = min(config.examples, len(known))
    return [(known[i * len(known) // count], config.seed) for i in range(count)]


def known_subjects(model: Bundle, config: PrepareConfig) -> list[Subject]:
    """All classes, or the prompts."""
    if not model.text_conditioned:
        return list(model.id2label)
    return list(config.prompts or default_prompts())


def jobs(config: PrepareConfig) -> Iterator[tuple[str, int, QuantConfig]]:
    """Every quantized model: its key in the file, the dial, the config; with one scale for all tokens first."""
    scales = [("", {}), ("/token", PER_TOKEN)] if config.per_token else [("", {})]
    for (suffix, given), (weight, activation), strength, (name, (csb, ssc)) in product(
        scales, config.bits, config.strengths, VARIANTS.items()
    ):
        wanted = QuantConfig(weight_bits=weight, activation_bits=activation, csb=csb, ssc=ssc, **given)
        yield f"W{weight}A{activation}/x{strength}/{name}{suffix}", strength, wanted


def distance(pictures: Tensor, references: Tensor) -> dict[str, float]:
    """Mean PSNR in dB and SSIM over pictures, each against its reference."""
    return {
        "psnr": round(psnr(pictures, references).mean().item(), 3),
        "ssim": round(ssim(pictures, references).mean().item(), 5),
    }


def _evaluations(config: PrepareConfig) -> int:
    return config.steps * (config.examples + config.pictures) * (1 + len(list(jobs(config))))


STAGE = Stage(
    name="examples",
    file=FILE,
    wanted=lambda config: config.examples > 0,
    made=lambda work: Examples(work).complete,
    run=lambda work: Examples(work).run(),
    evaluations=_evaluations,
)
