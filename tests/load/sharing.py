"""What sharing a job brings: `python tests/load/sharing.py [IMAGES]` prints a table of it in 1, 2 and 3 processes.

Every job is the command as anybody gives it, launched by `torchrun`, each process with one thread. What is compared is
the bytes of what it wrote; seconds are the clock's, with the twelve or so that each process takes to import torch.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COUNTS = 1, 2, 3


def jobs(images: int) -> dict[str, list[str]]:
    """Commands by what they do; {out} stands for the file or folder that they write."""
    sampling = ["--steps", "25"]
    return {
        "calibrate": ["calibrate", "--samples", str(images), *sampling, "--out", "{out}"],
        "quantize, closed form": ["quantize", "--reconstruct", "--reconstruction-steps", "0", "--out", "{out}"],
        "evaluate": ["evaluate", "--images", str(images), *sampling, "--weight-bits", "4", "--npz", "{out}.npz"],
    }


def launch(count: int, command: list[str], out: Path) -> tuple[float, str]:
    """Seconds of the command in so many processes, and a hash of all that it wrote."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    given = [part.format(out=out) for part in command]
    begun = time.monotonic()
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, "-m", "ptq4dit", *given], cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.monotonic() - begun, written(out)


def written(out: Path) -> str:
    """The first letters of the SHA-256 of the files of that name, or in the folder of that name, in order."""
    found = [path for path in sorted(out.parent.rglob("*")) if path.is_file() and out.name in str(path)]
    if not found:
        raise SystemExit(f"{out}: nothing was written.")
    sha = hashlib.sha256()
    for path in found:
        sha.update(path.read_bytes())
    return sha.hexdigest()[:16]


def main() -> None:
    """Print the table, line by line; the exit status is 1 where a result depends on the number of processes."""
    images, same = int(sys.argv[1]) if len(sys.argv) > 1 else 64, True
    print(f"{os.cpu_count()} cores, {images} pictures, one thread in each process")
    print("| job | 1 process, s | 2, s | 3, s | result of each |\n| --- | --- | --- | --- | --- |", flush=True)
    for name, command in jobs(images).items():
        with tempfile.TemporaryDirectory() as folder:
            taken = []
            for count in COUNTS:
                (place := Path(folder) / str(count)).mkdir()
                taken.append(launch(count, command, place / "out.safetensors"))
        hashes = [found for _, found in taken]
        same &= len(set(hashes)) == 1
        told = f"{hashes[0]}, all {len(hashes)}" if len(set(hashes)) == 1 else ", ".join(hashes)
        print(f"| {name} | {' | '.join(f'{seconds:.0f}' for seconds, _ in taken)} | {told} |", flush=True)
    sys.exit(not same)


if __name__ == "__main__":
    main()
