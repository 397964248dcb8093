"""Single files that are written whole or not at all, whatever is there, and whenever the writer is killed."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from ptq4dit.backends.openvino_cache import CompiledCache
from ptq4dit.storage.folder import recover
from ptq4dit.storage.json_file import read_json, update, write_json
from ptq4dit.storage.tensors import read_tensors, write_tensors
from ptq4dit.storage.whole_file import require_file, require_place, whole_file

LOOP = """
import json, sys
from pathlib import Path
from ptq4dit.backends.openvino_cache import CompiledCache
from ptq4dit.storage.folder import whole_folder
from ptq4dit.storage.json_file import write_json
place, cache = Path(sys.argv[1]), CompiledCache(folder=Path(sys.argv[1]) / "cache", limit=10**6)
number = 0
print("ready", flush=True)
while True:
    number += 1
    with whole_folder(place / "model") as new:
        for part in ("a", "b", "c"):
            (new / part).write_text(f"{number} " * 2000)
    write_json(place / "results.json", {"numbers": [number] * 2000})
    cache.store(f"key{number % 3}", lambda path: path.write_bytes(bytes([number % 256]) * 100_000))
"""


def test_killed_at_any_moment_all_is_whole_and_nothing_is_left(tmp_path):
    """What is there belongs to one moment each time, and the next writer sweeps what the killed ones left."""
    draw = random.Random(5)
    for _ in range(7):
        writer = subprocess.Popen([sys.executable, "-c", LOOP, tmp_path], stdout=subprocess.PIPE)
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(draw.uniform(0.005, 0.1))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        recover(tmp_path / "model")
        if (tmp_path / "model").exists():
            texts = {path.read_text() for path in (tmp_path / "model").iterdir()}
            assert len(list((tmp_path / "model").iterdir())) == 3 and len(texts) == 1
        assert len(set(read_json(tmp_path / "results.json").get("numbers", []))) <= 1
        cache = CompiledCache(folder=tmp_path / "cache", limit=10**6)
        for key in ("key0", "key1", "key2"):
            path = cache.find(key)
            assert path is None or len(set(path.read_bytes()[:100_000])) == 1
    assert (tmp_path / "model").exists()
    recover(tmp_path / "model")
    write_json(tmp_path / "results.json", {})
    cache.store("key0", lambda path: path.write_bytes(b"x"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "model", "results.json"]
    assert all(path.name.endswith(".openvino") for path in (tmp_path / "cache").iterdir())


def test_the_cache_counts_what_others_are_writing(tmp_path):
    cache = CompiledCache(folder=tmp_path, limit=3000)
    for age, key in enumerate("abc"):
        cache.store(key, lambda path: path.write_bytes(b"x" * 900))
        os.utime(cache.path(key), (age, age))

    def write(path):
        path.write_bytes(b"x" * 2000)
        cache.store("d", lambda path: path.write_bytes(b"x" * 900))

    cache.store("e", write)
    assert cache.find("a") is None and cache.find("b") is None and cache.find("c") is None
    assert cache.find("e") is not None


def test_a_link_keeps_pointing_to_its_file(tmp_path):
    (tmp_path / "real.json").write_text("{}")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    write_json(tmp_path / "link.json", {"a": 1})
    assert (tmp_path / "link.json").is_symlink() and json.loads((tmp_path / "real.json").read_text()) == {"a": 1}
    (tmp_path / "x").symlink_to(tmp_path / "later")
    write_tensors(tmp_path / "x", {"x": torch.ones(1)}, {}, "f")
    assert (tmp_path / "x").is_symlink() and (tmp_path / "later").is_file()
    assert read_tensors(tmp_path / "x", "f", "test")[0]["x"] == 1


def test_a_device_is_no_file(tmp_path):
    """As root, renaming something to ``/dev/null`` would break the machine."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ValueError, match="no ordinary file"):
            require_file(path)
        with pytest.raises(ValueError, match="no ordinary file"):
            write_json(path, {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="which is a folder"):
        write_tensors(tmp_path / "folder", {"x": torch.ones(1)}, {}, "f")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]


def test_what_cannot_be_written_is_said_before_the_work(tmp_path):
    with pytest.raises(ValueError, match="Make it first"):
        require_file(tmp_path / "none" / "x.json")
    for refuse in (lambda: require_file(Path("/proc/x.json")), lambda: require_place(Path("/proc/x"))):
        with pytest.raises(ValueError, match="Expected a folder that can be written"):
            refuse()
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="Expected a folder that can be written"):
        require_place(tmp_path / "file")
    require_file(tmp_path / "file")
    require_place(tmp_path / "made" / "below")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "made"]


def test_a_full_disk_leaves_the_older_file(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(ValueError, match="got a full disk"), whole_file(tmp_path / "x.json") as new:
        new.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert read_json(tmp_path / "x.json") == {"a": 1} and [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_what_many_add_to_one_file_is_all_there(tmp_path):
    file = tmp_path / "made" / "x.json"

    def add(number):
        update(file, lambda held: {"numbers": [*held.get("numbers", []), number]})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(80)))
    assert sorted(read_json(file)["numbers"]) == list(range(80))
    assert [path.name for path in file.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
def test_what_is_no_object_is_refused_before_anything_is_written(tmp_path, text):
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"^Expected .*x\.json.* Remove it"):
        update(file, dict)
    assert file.read_text() == text


def test_the_same_tensors_and_text_give_the_same_bytes(tmp_path):
    """Whatever the text is, and in whatever order it comes: files may be compared by their hashes."""
    tensors = {"b": torch.arange(3), "a/ü": torch.ones(2, 2, dtype=torch.float16), "empty": torch.zeros(0)}
    text = {"ö": '"quoted" \\ / \n\t\x00\x1f\x7f €😀', **{str(number): "x" * number for number in range(20)}}
    for number, words in enumerate((text, dict(reversed(text.items())))):
        for again in range(3):
            write_tensors(tmp_path / f"{number}-{again}", tensors, words, "test")
    files = list(tmp_path.iterdir())
    assert len(files) == 6 and len({file.read_bytes() for file in files}) == 1
    read, kept = read_tensors(files[0], "test", "test")
    assert kept == {"format": "test", **text}
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
