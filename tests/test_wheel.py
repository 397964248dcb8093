"""What `pip install .` gives works outside the checkout, brings what it reads, and is quiet."""

import os
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the wheel's files, built from what is tracked alone."""
    source, place = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if name.startswith("ptq4dit/") or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(place), str(source)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


def run(installed, folder, *command):
    env = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *map(str, command)], cwd=folder, env=env, capture_output=True, text=True)


def test_it_says_what_it_is_and_needs(installed):
    (information,) = installed.glob("*.dist-info")
    said = message_from_string((information / "METADATA").read_text())
    assert (said["Name"], said["License-Expression"]) == ("ptq4dit", "Apache-2.0")
    assert said.get_all("Requires-Dist") == (ROOT / "requirements.txt").read_text().split()
    assert (information / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert "ptq4dit = ptq4dit.cli:main" in (information / "entry_points.txt").read_text()


def test_it_works_from_an_empty_folder_and_is_quiet(installed, tmp_path, dit):
    from diffusers import DiTPipeline

    DiTPipeline(dit.transformer, dit.vae, dit.scheduler).save_pretrained(tmp_path / "model")
    used = "import ptq4dit; print(ptq4dit.__file__, len(ptq4dit.default_prompts()))"
    named = run(installed, tmp_path, "-c", used)
    assert named.stdout.startswith(str(installed)) and int(named.stdout.split()[-1]) > 10
    done = run(installed, tmp_path, "-m", "ptq4dit", "info", "model")
    assert done.returncode == 0 and "DiT" in done.stdout and done.stderr == ""
    lacking = run(installed, tmp_path, "-m", "ptq4dit", "info")
    assert lacking.returncode == 2 and lacking.stderr.startswith("ptq4dit info: Expected the demo model in")
