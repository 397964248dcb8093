"""Folders that are written whole or not at all, whatever kind of folder they are, and whenever the writer is killed."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ptq4dit.storage.folder import MANIFEST, recover, require_writable, whole_folder
from ptq4dit.storage.tensors import write_tensors

KIND = "ptq4dit-test"


def write(folder, number, extra=()):
    with whole_folder(Path(folder)) as new:
        (new / MANIFEST).write_text(json.dumps({"format": f"{KIND}-1", "number": number}))
        (new / "part").mkdir()
        (new / "part" / "file.txt").write_text(str(number))
        for name in extra:
            (new / name).write_text("more")


def found(folder):
    names = sorted(path.name for path in Path(folder).iterdir())
    number = json.loads((Path(folder) / MANIFEST).read_text())["number"]
    assert (Path(folder) / "part" / "file.txt").read_text() == str(number)
    return number, names


WHOLE = [MANIFEST, "part"]


def test_a_link_keeps_pointing_to_its_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for number in (1, 2):
        require_writable(tmp_path / "link", KIND)
        write(tmp_path / "link", number)
        assert (tmp_path / "link").is_symlink() and found(tmp_path / "real") == (number, WHOLE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_the_present_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    inode = Path.cwd().stat().st_ino
    write(".", 1, extra=["old.txt"])
    require_writable(Path("."), KIND)
    write(".", 2)
    assert found(".") == (2, WHOLE) and Path.cwd().stat().st_ino == inode == (tmp_path / "here").stat().st_ino


def test_a_folder_that_cannot_be_renamed(tmp_path, monkeypatch):
    """As a mount: renaming it fails with EBUSY."""
    target = tmp_path / "mount"
    target.mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == target)
    real = os.replace

    def replace(source, destination):
        if target in (Path(source), Path(destination)):
            raise OSError(errno.EBUSY, "Device or resource busy")
        real(source, destination)

    monkeypatch.setattr(os, "replace", replace)
    (target / "lost+found").mkdir()
    for number in (1, 2):
        require_writable(target, KIND)
        write(target, number, extra=["old.txt"] if number == 1 else [])
    (target / "lost+found").rmdir()
    assert found(target) == (2, WHOLE)
    assert [path.name for path in tmp_path.iterdir()] == ["mount"]


def test_a_failed_exchange_of_contents_is_finished_later(tmp_path, monkeypatch):
    target = tmp_path / "mount"
    target.mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == target)
    write(target, 1, extra=["old.txt"])
    code = (
        "import os, sys, json; from pathlib import Path; import ptq4dit.storage.folder as f;"
        "target = Path(sys.argv[1]); os.path.ismount = lambda path: Path(path) == target\n"
        "real, moved = os.replace, []\n"
        "def replace(a, b):\n"
        "    real(a, b); moved.append(b)\n"
        "    if len(moved) == int(sys.argv[2]): os.kill(os.getpid(), 9)\n"
        "os.replace = replace\n"
        "with f.whole_folder(target) as new:\n"
        f"    (new / 'manifest.json').write_text(json.dumps({{'format': '{KIND}-1', 'number': 2}}))\n"
        "    (new / 'part').mkdir(); (new / 'part' / 'file.txt').write_text('2')\n"
    )
    for moves in (1, 2):
        result = subprocess.run([sys.executable, "-c", code, target, str(moves)], check=False)
        assert result.returncode == -signal.SIGKILL
        recover(target)
        assert found(target) == (2, WHOLE)
        write(target, 1, extra=["old.txt"])


def test_killed_between_two_renames_the_old_folder_comes_back(tmp_path):
    target = tmp_path / "model"
    write(target, 1)
    code = (
        "import os, sys; from pathlib import Path; import ptq4dit.storage.folder as f; real = os.replace\n"
        "def replace(a, b): real(a, b); os.kill(os.getpid(), 9)\n"
        "os.replace = replace\n"
        "with f.whole_folder(Path(sys.argv[1])) as new: (new / 'x').write_text('2')\n"
    )
    assert subprocess.run([sys.executable, "-c", code, target], check=False).returncode == -signal.SIGKILL
    assert not target.exists()
    recover(target)
    assert found(target) == (1, WHOLE) and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_leftovers_of_the_killed_are_swept_and_those_of_the_living_are_not(tmp_path):
    target, code = (
        tmp_path / "model",
        (
            "import sys, time; from pathlib import Path; from ptq4dit.storage.folder import whole_folder\n"
            "with whole_folder(Path(sys.argv[1])) as new:\n"
            "    (new / 'half').write_text('x'); print('ready', flush=True); time.sleep(60)\n"
        ),
    )
    (tmp_path / ".model-mine").mkdir()
    writer = subprocess.Popen([sys.executable, "-c", code, target], stdout=subprocess.PIPE)
    try:
        assert writer.stdout.readline() == b"ready\n"
        write(target, 1)
        assert len(list(tmp_path.glob(".model.*"))) == 1
    finally:
        writer.kill()
        writer.wait()
    time.sleep(0.05)
    write(target, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model-mine", "model"] and found(target) == (2, WHOLE)


def test_what_cannot_be_written_is_said_before_the_work(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nothing/here")):
        with pytest.raises(ValueError, match=r"^Expected a (new folder|folder that can be written)"):
            require_writable(path, KIND)
    require_writable(tmp_path / "new" / "below", KIND)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("I/O error: (os error 28)")]
)
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, error):
    write(tmp_path / "model", 1)
    with (
        pytest.raises(ValueError, match=r"^Expected room for '.*', got a full disk"),
        whole_folder(tmp_path / "model") as new,
    ):
        (new / "half").write_text("x")
        raise error
    assert found(tmp_path / "model") == (1, WHOLE) and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_another_error_stays_what_it_is(tmp_path):
    with pytest.raises(OSError, match="no"), whole_folder(tmp_path / "model"):
        raise OSError(errno.EIO, "no")


def test_a_real_full_disk(tmp_path):
    """Four megabytes of memory as a disk, where mounting is allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        write(disk, 1)
        with pytest.raises(ValueError, match="got a full disk"), whole_folder(disk) as new:
            write_tensors(new / "big.safetensors", {"x": torch.ones(2**21)}, {}, "f")
        assert found(disk) == (1, WHOLE)
        with pytest.raises(ValueError, match="got a full disk"):
            write_tensors(disk / "big.safetensors", {"x": torch.ones(2**21)}, {}, "f")
        assert found(disk) == (1, WHOLE)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_modes_are_the_umasks(tmp_path):
    before = os.umask(0o022)
    try:
        with whole_folder(tmp_path / "model") as new:
            (new / "private").write_text("x")
            (new / "private").chmod(0o600)
        write_tensors(tmp_path / "x.safetensors", {"x": torch.ones(1)}, {}, "f")
    finally:
        os.umask(before)
    for path in (tmp_path / "model" / "private", tmp_path / "x.safetensors"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o755
