"""Where a result comes from, without a path of the machine that made it."""

import argparse

import pytest

from ptq4dit.cli import speed
from ptq4dit.storage.provenance import made_by, portable_source


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("python -m ptq4dit speed /srv/models/mine --rounds 3", "python -m ptq4dit speed mine --rounds 3"),
        ("python -m ptq4dit benchmark '/srv/my models/a b' --out=/srv/b.json", None),
        ("python -m ptq4dit prepare the-owner's model", "python -m ptq4dit prepare the-owner's model"),
        ("python -m ptq4dit speed owner/name --only 'a b'", "python -m ptq4dit speed owner/name --only 'a b'"),
    ],
)
def test_a_command_names_no_folder_of_the_machine(command, kept):
    kept = kept or "python -m ptq4dit benchmark 'a b' --out=b.json"
    assert made_by(command, 1)["command"] == kept


def test_what_lies_below_where_it_was_typed_keeps_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert portable_source(str(tmp_path / "models" / "mine")) == "models/mine"
    assert made_by(f"x {tmp_path / 'models' / 'mine'}", 1)["command"] == "x models/mine"


def test_the_commands_store_what_was_typed_without_its_folders(monkeypatch):
    parser = argparse.ArgumentParser()
    speed.add_options(parser)
    options = parser.parse_args(["/srv/my models/mine", "--batch", "2", "4", "--threads", "1"])
    kept = made_by(speed._command(options), 1)["command"]
    assert kept.startswith("python -m ptq4dit speed mine --batch 2 4 ")
    monkeypatch.setattr("sys.argv", ["x/ptq4dit/__main__.py", "benchmark", "/srv/my models/mine", "--seeds", "1"])
    from ptq4dit.benchmark.run import command_as_typed

    assert made_by(command_as_typed(), 1)["command"] == "python -m ptq4dit benchmark mine --seeds 1"
