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
from app.server.arguments import take
from app.services import models, shelf
from tests.load.server import ROOT, ask, post, served
from tests.ptq4dit.tiny_pipelines import CALL, tiny_sd3

DRAWN = (0, 3, 2, 2.0, "ddim", "FP32", True, True, 1, "auto")  # the values of /generate up to the model


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The app started in another folder, with two hub ids: one in the hub's cache on this machine, the other not."""
    folder = tmp_path_factory.mktemp("elsewhere")
    repository = folder / "hub" / "models--someone--tiny-sd3"
    files = repository / "snapshots" / ("0" * 40)
    tiny_sd3().save_pretrained(files)
    index = files / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | CALL["sd3"]))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(files.name)
    given = {"PTQ4DIT_MODEL": "someone/tiny-sd3\nsomeone/absent", "HF_HUB_CACHE": str(folder / "hub")}
    before = set(os.listdir("/"))
    with served(folder, cwd=Path("/"), env=given | {"HF_HUB_OFFLINE": "1"}) as app:
        yield app
    assert "Traceback" not in app.told()
    assert set(os.listdir("/")) == before


def test_from_another_folder_it_knows_the_demo_model_and_its_calibration(elsewhere):
    if not (ROOT / "assets" / "demo" / "calibration.safetensors").is_file():
        pytest.skip("This checkout has no demo model.")
    (layers,) = ask(elsewhere.url, "layers", "demo", timeout=180)
    asked = layers[-2], 500, True, True, 1, "demo"
    (salience,) = ask(elsewhere.url, "layer_salience", *asked, timeout=180)
    assert len(layers) == 32 and salience["layer"] == "blocks.7.fc1"


def test_hub_ids_of_text_conditioned_models_are_drawn_or_refused_in_a_sentence(elsewhere):
    assert urllib.request.urlopen(elsewhere.url, timeout=60).status == 200
    for model, says in (("tiny-sd3", "There is no calibration of tiny-sd3 yet"), ("absent", "a reachable hub id")):
        answer = ask(elsewhere.url, "layers", model, timeout=180)
        assert says in answer["error"] and str(elsewhere.temporary.parent) not in answer["error"]
    (drawn,) = ask(elsewhere.url, "generate", *DRAWN, "tiny-sd3", "a red cube", timeout=180)
    assert drawn["settings"]["source"] == "someone/tiny-sd3" and drawn["settings"]["drawn"] == "a red cube"
    assert urllib.request.urlopen(drawn["picture"]["url"], timeout=60).read().startswith(b"\x89PNG")


@pytest.mark.parametrize("wanted", ["", "assets/demo"])
def test_the_model_is_found_from_anywhere(wanted, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PTQ4DIT_MODEL", wanted)
    assert Path(shelf.first().source) == ROOT / "assets" / "demo"
    here = tmp_path / "elsewhere"
    (here / "assets" / "demo").mkdir(parents=True)
    monkeypatch.chdir(here)
    if wanted:  # what lies where somebody stands comes first
        assert [Path(one.source) for one in shelf.entries()][:2] == [here / wanted, ROOT / wanted]
        assert shelf.names()[:2] == ("demo", "demo-2")


@pytest.mark.parametrize(
    ("arguments", "env", "owner"),
    [
        ([], {}, "1"),
        (["--host", "localhost"], {}, "1"),
        (["--host", "0.0.0.0"], {}, "0"),
        (["--share"], {}, "0"),
        ([], {"SPACE_ID": "somebody/explorer"}, "0"),
        ([], {"GRADIO_SERVER_NAME": "0.0.0.0"}, "0"),
    ],
)
def test_who_launched_it_by_hand_for_this_machine_alone_owns_it(arguments, env, owner, given):
    for name, value in env.items():
        given.setenv(name, value)
    take(arguments)
    assert os.environ["PTQ4DIT_OWNER"] == owner


def test_the_command_line_goes_before_the_environment(given, tmp_path):
    (tmp_path / "mine").mkdir()
    given.setenv("PTQ4DIT_MODEL", "assets/demo")
    given.setenv("GRADIO_SERVER_PORT", "7000")
    take(["mine", "facebook/DiT-XL-2-256", "--port", "7001", "--cache", "there", "--device", "cuda"])
    assert shelf.names()[:3] == ("mine", "DiT-XL-2-256", "demo")
    assert shelf.entry("mine").folder == tmp_path / "mine" and shelf.entry("DiT-XL-2-256").folder is None
    told = [os.environ[name] for name in ("GRADIO_SERVER_PORT", "PTQ4DIT_CACHE", "PTQ4DIT_DEVICE")]
    assert told == ["7001", "there", "cuda"]
    take(["mine"])
    assert os.environ["GRADIO_SERVER_PORT"] == "7001"  # what is not given stays as it is


@pytest.mark.parametrize(
    "wrong", ["nowhere", "./a/b", "some/where/else", "a/model.pt", "a/x.pth", "a/x.ckpt", "a/x.safetensors"]
)
def test_a_model_that_is_not_there_ends_it_with_a_sentence(wrong, given, capsys):
    with pytest.raises(SystemExit) as ended:
        take([wrong])
    assert ended.value.code == 2
    assert "app.py: model: expected a folder, an official .pt file, or a hub id" in capsys.readouterr().err


def test_an_official_file_of_any_ending_is_named_without_it_and_has_its_classes(given, tmp_path):
    for number, ending in enumerate(("pt", "pth", "ckpt", "safetensors")):
        (tmp_path / f"m{number}.{ending}").touch()
    take([f"m{number}.{ending}" for number, ending in enumerate(("pt", "pth", "ckpt", "safetensors"))])
    assert shelf.names()[:4] == ("m0", "m1", "m2", "m3")
    for name in shelf.names()[:4]:
        assert len(models.outline(name).labels) == 1000
    (tmp_path / "folder.pt").mkdir()
    take(["folder.pt"])
    assert not models.outline("folder").known


def test_help_needs_nothing_slow():
    code = "import sys\nfrom app.server.arguments import take\ntry:\n    take(['--help'])\nfinally:\n    "
    code += "assert not {'gradio', 'torch'} & set(sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert all(option in said.stdout for option in ("MODEL", "--host", "--port", "--share", "--cache", "--device"))


def test_models_are_chosen_by_name_alone(given, tmp_path):
    """Nothing that a visitor says is ever read as a path."""
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
    take(["mine"])
    for asked in ("other", str(tmp_path / "other"), "../mine", "", None, ["mine"]):
        with pytest.raises(ValueError, match=r"model: expected one of mine, demo"):
            shelf.entry(asked)


@pytest.fixture
def given(monkeypatch, tmp_path):
    """A clean environment, which the command line may change, in an empty folder."""
    changed = ("PTQ4DIT_MODEL", "PTQ4DIT_OWNER", "PTQ4DIT_CACHE", "PTQ4DIT_DEVICE", "SPACE_ID", "GRADIO_SHARE")
    for name in (*changed, "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


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
    monkeypatch.setenv("LOGNAME", first.name.removeprefix("ptq4dit-"))
    monkeypatch.delattr(os, "getuid")  # as on Windows
    del os.environ["GRADIO_TEMP_DIR"]
    environment.prepare()
    assert Path(os.environ["GRADIO_TEMP_DIR"]) == first


def test_it_starts_under_a_locale_without_unicode():
    code = "import locale, app.page; assert 'UTF' not in locale.getencoding().upper(); app.page.build()"
    plain = {"LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | plain, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")


def test_its_configuration_names_no_path_of_the_machine(running, model_folder):
    told = json.dumps(running.config())
    assert str(ROOT) not in told and str(model_folder) not in told
