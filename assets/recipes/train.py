"""Render, then train everything that the two demo models need, one after another; run again to go on where it stopped.

A stage is done when what it leaves is there. Every stage resumes by itself, so a stop at any time loses minutes.
Minutes are of work (`run.py`): on two quiet cores the whole takes about a day.

    python assets/recipes/train.py
    python assets/recipes/train.py --from vae     # shards are being rendered elsewhere
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Stage:
    """One recipe with its arguments; `leaves` is the file in the work folder that says that it is done."""

    name: str
    recipe: str
    arguments: tuple[str, ...]
    leaves: str

    def command(self, work: Path) -> list[str]:
        """The recipe's command line; {work} in an argument stands for the work folder."""
        given = [argument.format(work=work) for argument in self.arguments]
        return [sys.executable, str(HERE / self.recipe), *given]


def _rendering(name: str, seed: int, count: int) -> Stage:
    given = ("--seed", str(seed), "--count", str(count), "--processes", "2", "--out", f"{{work}}/{name}")
    return Stage(f"render {name}", "dataset.py", given, f"{name}/pictures-{count // 1000 - 1:05d}.npy")


def _training(name: str, recipe: str, minutes: int, leaves: str, *more: str) -> Stage:
    return Stage(name, recipe, ("--work", "{work}", "--minutes", str(minutes), *more), leaves)


STAGES = (
    _rendering("test", 1, 2_000),
    _rendering("train", 0, 40_000),
    _training("vae", "train_vae.py", 72, "vae_whole.json"),
    _training("classifier", "classifier.py", 10, "classifier.json"),
    _training("dit", "train_dit.py", 450, "dit.json"),
    _training("decoder", "train_vae.py", 45, "vae_decoder.json", "--stage", "decoder"),
    _training("judge", "judge.py", 30, "judge.json"),
    _training("text", "train_text.py", 1200, "text.json"),
)
"""The DiT needs the encoder alone, which the decoder's stage leaves as it is, and is waited for the longest."""


def pending(work: Path, first: str = STAGES[0].name) -> list[Stage]:
    """The stages from `first` on that are not done.

    Raises:
        ValueError: if there is no stage of that name.
    """
    names = [stage.name for stage in STAGES]
    if first not in names:
        raise ValueError(f"Expected a stage to begin with, one of {names}, got {first!r}.")
    return [stage for stage in STAGES[names.index(first) :] if not (work / stage.leaves).exists()]


def take_trained(work: Path, trained: Path = HERE / "vae") -> None:
    """Put the autoencoder that is kept in the repository into a work folder that has none: its stage is done then."""
    if not (work / "vae").exists() and not (work / "vae.pt").exists():
        shutil.copytree(trained, work / "vae", dirs_exist_ok=True)
        for name in ("vae_whole.json", "vae.json"):
            shutil.copy(trained / "vae_whole.json", work / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".build/demo128"))
    parser.add_argument("--from", dest="first", default=STAGES[0].name, help="the stage to begin with")
    parser.add_argument("--anew", action="store_true", help="train the autoencoder anew, too")
    args = parser.parse_args()
    if not args.anew:
        take_trained(args.work)
    for stage in pending(args.work, args.first):
        print(f"stage {stage.name}", flush=True)
        subprocess.run(stage.command(args.work), check=True)


if __name__ == "__main__":
    main()
