"""Store the classifier's features of unseen rendered scenes: what sets of generated pictures are compared with.

python assets/recipes/real_features.py
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from dataset import render_singles
from provenance import ROOT, made_by

sys.path.insert(0, str(ROOT))

from ptq4dit.benchmark.measure import REAL_FORMAT
from ptq4dit.metrics.classifier import judge, load_classifier
from ptq4dit.storage.tensors import write_tensors

UNSEEN_SEED = 3  # training rendered seed 0, its checks seed 1, the evaluation seed 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "demo")
    parser.add_argument("--count", type=int, default=1000)
    args = parser.parse_args()
    pictures, _ = render_singles(args.count, UNSEEN_SEED)
    classifier = load_classifier(args.model / "classifier" / "model.safetensors")
    pooled, spatial, _ = judge(classifier, torch.from_numpy(pictures).float() / 255)
    made = made_by("python assets/recipes/real_features.py") | {"count": str(args.count), "seed": str(UNSEEN_SEED)}
    path = args.model / "classifier" / "real.safetensors"
    write_tensors(path, {"pooled": pooled.half(), "spatial": spatial.half()}, {"made": json.dumps(made)}, REAL_FORMAT)
    print(path.name, tuple(pooled.shape), tuple(spatial.shape))


if __name__ == "__main__":
    main()
