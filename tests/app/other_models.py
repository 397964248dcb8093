"""Models beside the demo: a DiT and a Stable Diffusion 3 with the demo's results beside each, and one with nothing."""

import json
import shutil

import ptq4dit
from app.services.shelf import DEMO
from tests.ptq4dit.tiny_pipelines import CALL, tiny_sd3


def write_others(folder, bundle):
    """Write ``dit``, ``sd3`` and ``bare`` (the DiT without a calibration): random weights, calibrated on a picture."""
    from diffusers import DiTPipeline

    for name in ("bare", "dit"):
        DiTPipeline(transformer=bundle.transformer, vae=bundle.vae, scheduler=bundle.scheduler).save_pretrained(
            folder / name
        )
    tiny_sd3().save_pretrained(folder / "sd3")
    index = folder / "sd3" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | CALL["sd3"]))
    config = ptq4dit.CalibrationConfig(timesteps=3, samples_per_timestep=1, steps=3)
    for name in ("dit", "sd3"):
        ptq4dit.calibrate(ptq4dit.load(folder / name), config).save(folder / name / "calibration.safetensors")
        shutil.copytree(DEMO / "results", folder / name / "results")
