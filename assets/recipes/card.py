"""Write the demo's model card, `assets/demo/README.md`, from the measured results beside it.

python assets/recipes/card.py
"""

from __future__ import annotations

import json
from pathlib import Path
from string import Template
from typing import Any

from provenance import ROOT

from ptq4dit.storage.markdown import markdown_table

DEMO = ROOT / "assets" / "demo"
CARD = Path(__file__).with_name("card.md")


def read(name: str) -> dict[str, Any]:
    return json.loads((DEMO / "results" / name).read_text())


def salience_table(layers: dict[str, dict[str, float]]) -> str:
    head = ["layer", "activation max/median", "weight max/median", "rho mean (min .. max)", "top channels' travel"]
    rows = [
        [
            f"`{layer}`",
            f"{n['activation_max_over_median']:.1f}",
            f"{n['weight_max_over_median']:.1f}",
            f"{n['rho_mean']:.2f} ({n['rho_min']:.2f} .. {n['rho_max']:.2f})",
            f"{n['top_channels_variation_over_time']:.1f}x",
        ]
        for layer, n in layers.items()
    ]
    return markdown_table(head, rows)


def dial_table(dial: dict[str, dict[str, float]]) -> str:
    """Rows: bits and strength; columns: variants; cells: mean PSNR against full precision."""
    variants = list(dict.fromkeys(key.split("/")[2] for key in dial))
    places = list(dict.fromkeys(key.rsplit("/", 1)[0] for key in dial))
    rows = [
        [*place.split("/"), *(f"{dial[f'{place}/{variant}']['psnr']:.1f}" for variant in variants)] for place in places
    ]
    return markdown_table(["bits", "salience", *variants], rows)


def class_table(accuracy: dict[str, float]) -> str:
    return markdown_table(list(accuracy), [[f"{value:.0%}" for value in accuracy.values()]])


def main() -> None:
    quality, salience, training, dial = (
        read(name) for name in ("quality.json", "salience.json", "training.json", "dial.json")
    )
    card = Template(CARD.read_text()).substitute(
        steps=f"{training['dit']['steps']:,}",
        batch=training["dit"]["batch"],
        minutes=f"{training['dit']['minutes']:.0f}",
        vae_parameters=f"{training['vae']['parameters'] / 1e6:.2f}M",
        classifier_accuracy=f"{training['classifier']['accuracy_unseen']:.1%}",
        accuracy=f"{quality['class_accuracy']:.1%}",
        accuracy_table=class_table(quality["class_accuracy_each"]),
        count=f"{quality['count']:,}",
        sampling_steps=quality["steps"],
        guidance=quality["guidance"],
        frechet=f"{quality['frechet_generated_real']:.2f}",
        floor=f"{quality['frechet_real_real']:.2f}",
        psnr=f"{quality['vae']['psnr_db']:.1f}",
        made=f"{quality['hardware']}, {quality['versions']}, commit {quality['commit']}",
        salience=salience_table(salience["layers"]),
        dial=dial_table(dial["means"]),
        dial_pictures=dial["pictures"],
        dial_steps=dial["steps"],
    )
    partial = DEMO / "README.md.partial"
    partial.write_text(card)
    partial.replace(DEMO / "README.md")


if __name__ == "__main__":
    main()
