"""Make the stored results of the demo model: every picture and number on the Start tab.

python assets/recipes/results.py

For each example (class, seed), bit-width, setting of the salience dial and variant (none, CSB, CSB+SSC): the picture,
its PSNR and SSIM against full precision from the same noise, and the means over a larger set. All of it is simulated
quantization. Saved after each model; run again, it goes on where it stopped. `python -m ptq4dit prepare` makes the
same of any model; here the examples are chosen by hand.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from provenance import ROOT, made_by

sys.path.insert(0, str(ROOT))

import ptq4dit
from ptq4dit.config.prepare import PrepareConfig
from ptq4dit.prepare.examples import Examples
from ptq4dit.prepare.stage import Work

COMMAND = "python assets/recipes/results.py"
EXAMPLES = ((4, 0), (0, 0), (8, 0), (3, 0), (9, 0), (1, 0))  # (class, seed)
STRENGTHS = (1, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "demo")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--pictures", type=int, default=32, help="behind each mean")
    args = parser.parse_args()
    config = PrepareConfig(steps=args.steps, guidance_scale=args.guidance, pictures=args.pictures, strengths=STRENGTHS)
    work = Work(
        model=ptq4dit.load(args.model),
        home=args.model,
        config=config,
        made=made_by(COMMAND),
        stats=ptq4dit.Calibration.load(args.model / "calibration.safetensors"),
        progress=lambda done, total: print(f"{done} of {total} models", flush=True),
    )
    Examples(work, EXAMPLES).run()


if __name__ == "__main__":
    main()
