"""The app starts wherever it is started from, whoever else uses the machine, whatever its locale and its proxy."""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest

from app.server import environment
from app.services import models
from tests.load.server import ROOT, ask, post, served


def test_from_another_folder_it_knows_the_demo_model_and_its_calibration(tmp_path):
    if not (ROOT / "assets" / "demo" / "calibration.safetensors").is_file():
        pytest.skip("This checkout has no demo model.")
    before = set(os.listdir("/"))
    with served(tmp_path, cwd=Path("/"), env={"PTQ4DIT_MODEL": ""}) as app:
        (layers,) = ask(app.url, "layers", timeout=180)
        (salience,) = ask(app.url, "layer_salience", layers[-2], 500, True, True, 1, timeout=180)
    assert len(layers) == 32 and salience["layer"] == "blocks.7.fc1"
    assert set(os.listdir("/")) == before


@pytest.mark.parametrize("wanted", ["", "assets/demo"])
def test_the_model_is_found_from_anywhere(wanted, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PTQ4DIT_MODEL", wanted)
    assert Path(models.source()) == ROOT / "assets" / "demo"
    (tmp_path / "assets" / "demo").mkdir(parents=True)
    if wanted:
        assert models.source() == wanted  # what lies where somebody stands comes first


def test_another_users_temporary_folder_and_a_proxy_do_not_keep_it_from_starting(model_folder, tmp_path):
    """gradio's own folder belongs to somebody else, and the proxy that the machine names does not answer."""
    (tmp_path / "temporary").mkdir()
    (tmp_path / "temporary" / "gradio").write_text("somebody else's", encoding="utf-8")
    proxy = {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")}
    with served(tmp_path, env=proxy | {"PTQ4DIT_MODEL": str(model_folder), "NO_PROXY": "example.org"}) as app:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert opener.open(app.url, timeout=60).status == 200
        status, _ = post(f"{app.url}/gradio_api/reset", {"event_id": "none"})
        assert status == 200
    assert "Traceback" not in app.told()


def test_a_temporary_folder_that_is_not_ours_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("GRADIO_TEMP_DIR", "NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    environment.prepare()
    first = Path(os.environ.pop("GRADIO_TEMP_DIR"))
    assert first.parent == tmp_path and first.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: first.stat().st_uid + 1)
    environment.prepare()
    other = Path(os.environ["GRADIO_TEMP_DIR"])
    assert other != first and other.is_dir()
    assert os.environ["NO_PROXY"].split(",") == ["localhost", "127.0.0.1", "::1"]


def test_it_starts_under_a_locale_without_unicode():
    code = "import locale, app.page; assert 'UTF' not in locale.getencoding().upper(); app.page.build()"
    plain = {"LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | plain, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")


def test_its_configuration_names_no_path_of_the_machine(running, model_folder):
    told = json.dumps(running.config())
    assert str(ROOT) not in told and str(model_folder) not in told
