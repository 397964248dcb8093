"""Render sets of scenes to shards on disk, and read them back without loading them.

A shard holds 1,000 pictures with their captions and attributes, plain and mirrored. Shards that exist are kept, so a
stopped run goes on where it was, and training may start on the first ones.

    python assets/recipes/dataset.py --seed 0 --count 40000 --out .build/demo128/train
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from chance import draw_scene
from numpy import ndarray as Array
from render import SIZE, render
from scenes import ATTRIBUTES, attributes, caption
from solids import CLASSES

SHARD = 1000
SHAPE_COLUMN, COUNT_COLUMN = list(ATTRIBUTES).index("left shape"), list(ATTRIBUTES).index("count")


def write_shard(folder: Path, seed: int, number: int, size: int = SIZE, length: int = SHARD) -> None:
    """Render scenes number * length .. of the set `seed`; the pictures' file comes last and says that all is there."""
    scenes = [draw_scene(seed, index) for index in range(number * length, (number + 1) * length)]
    both = [(scene, scene.mirror()) for scene in scenes]
    looks = [[list(attributes(scene).values()) for scene in pair] for pair in both]
    words = [[caption(scene) for scene in pair] for pair in both]
    (folder / f"captions-{number:05d}.json").write_text(json.dumps(words))
    np.save(folder / f"attributes-{number:05d}.npy", np.array(looks, np.int8))
    partial = folder / f"partial-{number:05d}.npy"
    np.save(partial, np.stack([render(scene, size) for scene in scenes]))
    partial.replace(folder / f"pictures-{number:05d}.npy")


def write_set(folder: Path, seed: int, count: int, processes: int) -> None:
    """Render the shards of `count` scenes that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = range(-(-count // SHARD))
    jobs = [(folder, seed, number) for number in wanted if not (folder / f"pictures-{number:05d}.npy").exists()]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.starmap(write_shard, jobs, chunksize=1)


@dataclass(frozen=True)
class SceneSet:
    """A rendered set, memory-mapped.

    attributes: int8 (n, 2, attribute), captions: n pairs; of each pair the first is the picture's own and the second
    its mirror image's.
    """

    shards: list[Array]
    attributes: Array
    captions: list[list[str]]

    @staticmethod
    def open(folder: Path) -> SceneSet:
        """The shards that are there now.

        Raises:
            ValueError: if there is none.
        """
        files = sorted(folder.glob("pictures-*.npy"))
        if not files:
            raise ValueError(f"Expected rendered shards in {folder}, found none: run dataset.py --out {folder}.")
        tags = [file.stem.removeprefix("pictures-") for file in files]
        looks = np.concatenate([np.load(folder / f"attributes-{tag}.npy") for tag in tags])
        words = [pair for tag in tags for pair in json.loads((folder / f"captions-{tag}.json").read_text())]
        return SceneSet([np.load(file, mmap_mode="r") for file in files], looks, words)

    def __len__(self) -> int:
        return len(self.captions)

    def pictures(self, rows: Array) -> Array:
        """The pictures of some rows: uint8 (len(rows), 3, size, size)."""
        length = len(self.shards[0])
        return np.stack([self.shards[row // length][row % length] for row in rows])

    def singles(self) -> Array:
        """Rows of the scenes that hold one thing."""
        return np.flatnonzero(self.attributes[:, 0, COUNT_COLUMN] == 0)

    def classes(self) -> Array:
        """The class of each single thing, the left thing's of pairs: int64 (n,)."""
        return self.attributes[:, 0, SHAPE_COLUMN].astype(np.int64)


def render_singles(count: int, seed: int) -> tuple[Array, Array]:
    """Pictures of one thing each, classes in turn: uint8 (count, 3, size, size) and int64 labels (count,)."""
    pictures = np.stack([render(draw_scene(seed, 2 * index)) for index in range(count)])
    return pictures, np.arange(count) % len(CLASSES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="0 to train on, 1 to check the training")
    parser.add_argument("--count", type=int, default=40_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(".build/demo128/train"))
    args = parser.parse_args()
    write_set(args.out, args.seed, args.count, args.processes)


if __name__ == "__main__":
    main()
