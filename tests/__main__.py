"""Run all tests, those first that tell soonest: `python -m tests`; `python -m tests long` adds what they leave out.

The steps are run one after another and the first that fails is the last: the gate and the engine's formulas, within
three minutes; all else, in three processes, a file in one of them; then, alone, what measures how soon somebody is
answered. The long form is what the others try once, with every other family, method and format; and the whole engine
with every annotated type and shape checked at every call, which takes 2.4 times as long: the first step does so, for
the formulas and for one way through methods, reconstruction, backends and checkpoints.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKED = ("--jaxtyping-packages=ptq4dit,beartype.beartype",)  # types and shapes, at every call
TWO, THREE = (("-n", count, "--dist", "loadfile") for count in "23")  # two cores; browsers wait a third of their time
IN_ORDER = ("--no-loadscope-reorder",)
APP, BROWSER = "tests/app/", "tests/browser/"
QUICK = (
    "tests/test_gate.py",
    "tests/ptq4dit/model",
    "tests/ptq4dit/storage",
    "tests/ptq4dit/checkpoint/test_hostile.py",
    *(
        f"tests/ptq4dit/test_{name}.py"
        for name in ("paper", "reparam", "config", "affine", "ranges", "logarithmic", "packing", "rotation", "gptq")
    ),
    *(f"tests/ptq4dit/test_{name}.py" for name in ("attention", "quantize", "integer_linear", "layer_error", "dit")),
    *(f"tests/ptq4dit/test_{name}.py" for name in ("trajectories", "recorded_calls", "official", "sensitivity")),
)
WAYS_THROUGH = (
    "tests/ptq4dit/test_methods.py::test_every_method_makes_finite_pictures_and_says_who_made_it",
    "tests/ptq4dit/test_reconstruction_families.py::test_quantize_transformer_learns_from_recorded_calls",
    "tests/ptq4dit/test_checkpoint.py::test_same_bits_after_loading",
    "tests/ptq4dit/backends/test_traced.py::test_every_family[flux-W4A8]",
)
"""Run with types and shapes checked, and once more, unchecked, where they stand."""
ALONE = (
    *(f"tests/app/test_{name}.py" for name in ("crowd", "doors", "leaving", "load", "sessions")),
    "tests/browser/test_compare.py",
)


def all_else() -> list[str]:
    """The files of the second step in their order: the engine's before the app's, and now and then one with a browser.

    So few browsers meet, and what is left for the end is short.
    """
    paths = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    left = [path for path in paths if not path.startswith(QUICK)]
    browsers = [path for path in left if path.startswith(BROWSER)]
    others = sorted((path for path in left if path not in browsers), key=lambda path: (path.startswith(APP), path))
    every = 3 * len(others) // (4 * len(browsers))
    for place, browser in enumerate(browsers):
        others.insert(place * (every + 1), browser)
    return others


STEPS: dict[str, tuple[str, ...]] = {
    "quick": (*TWO, *CHECKED, "-m", "not alone and not long", *QUICK, *WAYS_THROUGH),
    "all else": (*THREE, *IN_ORDER, "-m", "not alone and not long", *all_else()),
    "alone": ("-m", "alone and not long", *ALONE),
}
LONG = {"long": (*TWO, "-m", "long"), "checked": (*TWO, *CHECKED, "-m", "not alone", "tests/ptq4dit")}


def main(arguments: list[str]) -> int:
    """Run the steps; the exit status of the first that fails, else 0."""
    if arguments not in ([], ["long"]):
        print(__doc__, file=sys.stderr)
        return 2
    for name, given in (STEPS | LONG if arguments else STEPS).items():
        begun = time.monotonic()
        status = subprocess.run([sys.executable, "-m", "pytest", *given], cwd=ROOT).returncode
        print(f"{name}: {time.monotonic() - begun:.0f} s, exit status {status}", flush=True)
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
