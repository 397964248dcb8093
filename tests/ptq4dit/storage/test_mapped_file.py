"""Mapped files: the same bytes however they are read, and pages that are held only as long as they are needed."""

import gc
import sys

import numpy as np
import pytest
import torch

from ptq4dit.storage import mapped_file
from ptq4dit.storage.mapped_file import bytes_of, drop_pages, is_mapped, map_file, read_around, read_once, tensor_of
from ptq4dit.storage.memory import held_bytes

SIZE = 48 * 2**20
linux = pytest.mark.skipif(sys.platform != "linux", reason="what is resident is read from /proc")


@pytest.fixture
def path(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
    values.tofile(tmp_path / "values")
    return tmp_path / "values"


def resident():
    return held_bytes()["VmRSS"]


def touch(file):
    return int(file[::512].sum())


@linux
def test_pages_are_held_from_touching_to_dropping(path):
    before = resident()
    file = map_file(path)
    assert resident() - before < SIZE / 4
    total = touch(file)
    assert resident() - before > SIZE / 2
    drop_pages(file)
    assert resident() - before < SIZE / 4 and touch(file) == total
    with read_once(file):
        assert touch(file) == total
    assert resident() - before < SIZE / 4


@linux
def test_reading_around_touches_no_page(path):
    before, part = resident(), tensor_of(map_file(path), 100, (1000, 3 * 2**13))
    copy = read_around(part)
    assert resident() - before < 1.3 * copy.nbytes and torch.equal(copy, part)


def test_the_same_bytes_from_memory_and_from_a_file(path):
    part = tensor_of(map_file(path), 7, (3, 2**19 + 5))
    assert is_mapped(part) and is_mapped(part[1]) and not is_mapped(part.clone()) and not is_mapped(part[:, 1:])
    expected = part.numpy().tobytes()
    for each in (part, part.clone(), part.t().contiguous().t()):
        assert b"".join(bytes_of(each)) == expected
    assert read_around(copy := part.clone()) is copy


def test_a_file_stays_readable_without_its_name_and_is_closed_with_its_last_tensor(path):
    file = map_file(path, SIZE - 32)
    part = tensor_of(file, 0, (2**20,))
    expected = part.clone()
    path.unlink()
    drop_pages(file)
    assert torch.equal(read_around(part), expected)
    known = len(mapped_file._LIVE)
    del part, file
    gc.collect()
    assert len(mapped_file._LIVE) == known - 1


def test_a_file_that_became_shorter_is_an_error_and_not_endless(path):
    part = tensor_of(map_file(path), 0, (2**20,))
    path.write_bytes(b"short")
    with pytest.raises(OSError, match="ends at byte 5"):
        read_around(part)


@pytest.mark.parametrize("missing", ["preadv"])
def test_a_system_without_the_calls_reads_and_keeps_the_pages(path, monkeypatch, missing):
    """As Windows."""
    monkeypatch.delattr(mapped_file.os, missing)
    monkeypatch.setattr(mapped_file.sys, "platform", "win32")
    file = map_file(path)
    part = tensor_of(file, 0, (100,))
    assert read_around(part) is part
    drop_pages(file)
    assert bytes(file[:100]) == b"".join(bytes_of(part))
