"""A tiny model on disk with its calibration, and stored results, for the app to explore."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.load.server import ask, served

LABELS = ("sphere", "cube", "cone", "torus", "cross")


@pytest.fixture(scope="session")
def model_folder(dit, tmp_path_factory):
    """The tiny bundle saved as the demo model is: a DiTPipeline folder with names and a calibration."""
    from diffusers import DiTPipeline

    import ptq4dit

    folder = tmp_path_factory.mktemp("models") / "tiny"
    DiTPipeline(transformer=dit.transformer, vae=dit.vae, scheduler=dit.scheduler).save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"id2label": dict(enumerate(LABELS))}))
    config = ptq4dit.CalibrationConfig(timesteps=4, samples_per_timestep=2, steps=4)
    ptq4dit.calibrate(ptq4dit.load(folder), config).save(folder / "calibration.safetensors")
    return folder


@pytest.fixture(scope="session")
def running(model_folder, tmp_path_factory):
    """The app with the tiny model, loaded, in a process of its own; shared by all tests that look from outside."""
    with served(
        tmp_path_factory.mktemp("served"), env={"PTQ4DIT_MODEL": str(model_folder), "PTQ4DIT_OWNER": "0"}
    ) as app:
        ask(app.url, "layers", timeout=180)
        yield app


@pytest.fixture
def explored_model(model_folder, monkeypatch):
    """The app explores the tiny model, from a clean start, and forgets it afterwards."""
    from app.services import loading

    monkeypatch.setenv("PTQ4DIT_MODEL", str(model_folder))
    loading.forget_all()
    yield model_folder
    loading.forget_all()


@pytest.fixture(scope="module")
def explored_once(model_folder):
    """As `explored_model`, loaded once for a whole file of tests that only look."""
    from app.services import loading

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTQ4DIT_MODEL", str(model_folder))
        loading.forget_all()
        yield model_folder
    loading.forget_all()


@pytest.fixture
def stored_folder(tmp_path):
    """Stored results of two examples; every number differs from every other, so that a mix-up shows."""
    rng = np.random.default_rng(0)

    def picture(name):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / name, lossless=True)
        return {"file": name}

    keys = [f"{b}/x{s}/{v}" for b in ("W4A8", "W8A8") for s in (1, 8) for v in ("none", "csb", "csb+ssc")]
    examples = [
        {
            "class_id": class_id,
            "class_name": name,
            "seed": seed,
            "full_precision": picture(f"{name}-fp.webp"),
            "quantized": {
                key: picture(f"{name}-{i}.webp") | {"psnr": 20.0 + 3 * i + 0.5 * class_id, "ssim": 0.8 + i / 100}
                for i, key in enumerate(keys)
            },
        }
        for class_id, name, seed in ((3, "torus", 5), (0, "sphere", 1))
    ]
    made = {
        "command": "python assets/recipes/results.py",
        "commit": "abc1234",
        "date": "2026-01-01",
        "hardware": "a test",
        "backend": "simulated",
        "steps": 50,
        "guidance_scale": 4.0,
    }
    means = {key: {"psnr": 30.0 + i, "ssim": 0.9 + i / 1000, "pictures": 64} for i, key in enumerate(keys)}
    text = json.dumps({"format": 1, "made": made, "examples": examples, "means": means})
    (tmp_path / "results.json").write_text(text)
    return tmp_path


@pytest.fixture
def benchmark_folder(tmp_path):
    """A stored benchmark with a few cells: a method without interval, one unknown, two corners of the factorial."""

    def cell(psnr, each=(), low=None):
        spread = {"mean": psnr, "low": low, "high": None if low is None else 2 * psnr - low}
        other = {"mean": psnr / 100, "low": None, "high": None}
        return {
            "metrics": {"psnr": spread, "ssim": other, "drift": other},
            "drift_by_step": [0.01, 0.02],
            "psnr_each": list(each),
            "cpu_seconds": 1.5,
            "bytes": 9_000_000,
        }

    names = {"rtn": "Round to nearest", "gptq": "GPTQ", "ptq4dit": "PTQ4DiT"}
    about = {"citation": "Someone 2020, arXiv 1234.56789", "summary": "It rounds.", "inference": "nothing"}
    results = {
        "x1/W4A8/unheard": cell(20.0),
        "x1/W4A8/ptq4dit": cell(24.0, (23.0, 24.0, 25.0), low=23.5),
        "x1/W4A8/rtn": cell(21.0, (20.1, 20.9, 22.0)),
        "x8/W8A8/rtn": cell(30.0, (30.0, 31.0)),
        "x1/W4A8/factorial/none": cell(21.0, (20.0, 21.0, 22.0), low=20.5),
        "x1/W4A8/factorial/csb+ssc+dynamic+reconstruction": cell(26.0, (25.0, 26.5, 26.5), low=25.5),
    }
    made = {"command": "python -m ptq4dit benchmark", "commit": "abc1234", "date": "2026-01-01", "hardware": "a test"}
    content = {
        "format": "ptq4dit-benchmark-1",
        "made": made | {"backend": "simulated"},
        "config": {"seeds": [1], "pictures": 3, "steps": 2, "guidance_scale": 4.0},
        "methods": {name: about | {"title": title} for name, title in names.items()},
        "results": results,
    }
    (tmp_path / "benchmark.json").write_text(json.dumps(content))
    return tmp_path
