"""What a visitor is told: our sentences without a path of this machine, of others' errors that there was one."""

import logging
import re

import gradio as gr
import pytest

from app.components.messages import UNFORESEEN, explained, in_words
from app.services import shelf


def told(act):
    with pytest.raises(gr.Error) as caught, explained():
        act()
    return caught.value.message


@pytest.fixture(autouse=True)
def _visited(monkeypatch):
    monkeypatch.setenv(shelf.OWNER, "0")


def test_a_cache_that_cannot_be_written_is_told_by_its_name(tmp_path, monkeypatch):
    from ptq4dit.backends.openvino_cache import CompiledCache
    from ptq4dit.storage.home import cache_folder
    from ptq4dit.storage.whole_file import require_place

    (tmp_path / "file").touch()
    monkeypatch.setenv("PTQ4DIT_CACHE", str(tmp_path / "file" / "my cache"))
    for act in (
        lambda: CompiledCache(folder=cache_folder(), limit=1).store("key", lambda path: path.write_bytes(b"")),
        lambda: require_place(cache_folder()),
    ):
        said = told(act)
        assert said.startswith("Expected ") and "my cache" in said
        assert "/" not in said and tmp_path.name not in said
    monkeypatch.setenv(shelf.OWNER, "1")
    assert str(cache_folder()) in told(lambda: require_place(cache_folder()))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Expected a file in '/srv/a b/x.json', got none.", "Expected a file in 'x.json', got none."),
        ("Expected room in /var/lib/models: 3 MB.", "Expected room in models: 3 MB."),
        (f"Remove {shelf.ASSETS}/demo.", "Remove assets/demo."),
        ("W4A8/x8/none, 3/4 of it, https://a.b/c/d and ~/.cache/x stay.", None),
        ("bits: expected W<bits>A<bits>; got 'a/b'", None),
    ],
)
def test_a_path_is_told_by_its_name(text, said):
    assert shelf.without_paths(text) == (text if said is None else said)


@pytest.mark.parametrize(
    "act",
    [
        lambda: int("/srv/someone/x"),
        lambda: float("x"),
        lambda: [][:0].index(3),
        lambda: (lambda a, b: None)(*"ab") or next(iter(zip("a", "", strict=True))),
        lambda: "\udc80".encode(),
        lambda: re.compile("x", flags=re.A | re.L),
    ],
)
def test_others_words_are_logged_and_not_told(act, caplog):
    with caplog.at_level(logging.ERROR):
        assert told(act) == UNFORESEEN
    assert "Error" in caplog.text


def test_words_of_ours_are_told_as_they_are():
    for text in ("Expected 1, got 2.", "class_id: expected 0 to 4; got 9", "stored results: expected all"):
        try:
            raise ValueError(text)
        except ValueError as error:
            assert in_words(error) == text
