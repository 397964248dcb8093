"""A job's result is the same for any number of processes, and goes on where it was stopped."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import ptq4dit
from ptq4dit.cli import main
from ptq4dit.parallel import Job, Processes, processes, ranges

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


def letters(folder, units="abcde", **settings):
    return Job(folder=folder, settings={"of": "letters", **settings}, units=list(units))


def write(unit, file):
    file.write_text(unit * 3)


def launched(count, *command, **more):
    """The same command in several processes; what it said and its exit status."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    settings = {"cwd": ROOT, "env": env, "capture_output": True, "text": True, "timeout": 300}
    return subprocess.run([*LAUNCH, str(count), *command], **(settings | more))


def test_alone_there_is_one_process():
    assert processes() == Processes(rank=0, count=1, local=0)
    assert processes().device("cuda") == "cuda" and processes().agree([1]) == [1]


def test_every_process_has_its_part_and_its_gpu():
    here = [Processes(rank=rank, count=3, local=rank) for rank in range(3)]
    parts = [one.part("abcdefg") for one in here]
    assert parts == ["adg", "be", "cf"]
    assert [one.device("cuda") for one in here] == ["cuda:0", "cuda:1", "cuda:2"]
    assert here[1].device("cpu") == "cpu" and here[1].device("cuda:0") == "cuda:0"


def test_units_of_images_do_not_depend_on_the_processes():
    assert list(ranges(10, 4, first=2).values()) == [range(2, 6), range(6, 10), range(10, 12)]
    assert list(ranges(5, 4)) == ["images-000000-000004.safetensors", "images-000004-000005.safetensors"]


def test_every_unit_once_and_in_order(tmp_path):
    seen = []
    taken = letters(tmp_path / "job").run(write, seen.append)
    assert [file.read_text() for file in taken.files] == ["aaa", "bbb", "ccc", "ddd", "eee"]
    assert [progress.done for progress in seen] == [1, 2, 3, 4, 5]
    assert taken.progress.seconds_left == 0 and taken.progress.bytes == 3 and taken.progress.memory > 1e7


def test_a_stopped_job_repeats_no_more_than_the_unit_that_it_was_at(tmp_path):
    job, made = letters(tmp_path / "job"), []

    def stop_at_c(unit, file):
        write(unit, file)
        made.append(unit)
        if unit == "c":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.run(stop_at_c)
    assert sorted(file.name for file in job.folder.iterdir()) == [".unfinished-0-c", "a", "b", "job.json"]
    taken = job.run(lambda unit, file: (made.append(unit), write(unit, file)))
    assert made == ["a", "b", "c", "c", "d", "e"]
    assert not list(job.folder.glob(".unfinished*"))
    assert [file.read_text() for file in taken.files] == ["aaa", "bbb", "ccc", "ddd", "eee"]
    job.clear()
    assert not job.folder.exists()


def test_parts_of_other_settings_are_not_mixed_in(tmp_path):
    letters(tmp_path / "job", steps=50, prompts=("x" * 100,)).run(write, only_first=True)
    letters(tmp_path / "job", steps=50, prompts=("x" * 100,)).run(write, only_first=True)
    with pytest.raises(ValueError, match=r"Expected steps=50, as of the parts in '.*job', got 25. Ask for the same"):
        letters(tmp_path / "job", steps=25, prompts=("x" * 100,)).run(write)
    with pytest.raises(ValueError, match=r'Expected prompts=\["x{10,60}\.\.\., as'):
        letters(tmp_path / "job", steps=50).run(write)


def test_the_price_is_that_of_the_first_unit(tmp_path):
    def slowly(unit, file):
        time.sleep(0.2)
        write(unit, file)

    job = letters(tmp_path / "job")
    taken = job.run(slowly, only_first=True)
    assert (taken.progress.done, taken.progress.total) == (1, 5)
    assert 0.8 <= taken.progress.seconds_left < 4
    assert job.run(slowly).progress.done == 5  # the first is kept, and the rest is done


WORK = """
import os, sys, time
from pathlib import Path
from ptq4dit.parallel import Job, processes

def make(unit, file):
    if unit == sys.argv[2] and processes().rank == 1:
        print("rank 1 is at its last unit", flush=True)
        (os.kill(os.getpid(), 9) if sys.argv[3] == "killed" else exec("raise ValueError('this one cannot be made')"))
    file.write_text(unit * 3)

taken = Job(folder=Path(sys.argv[1]), settings={}, units=list("abcdefgh")).run(make)
if processes().first:
    print("".join(file.read_text() for file in taken.files))
"""


def test_a_worker_that_dies_ends_the_job_and_the_rest_is_kept(tmp_path):
    script = tmp_path / "work.py"
    script.write_text(WORK)
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    begun = time.monotonic()
    done = launched(2, str(script), str(tmp_path / "job"), "f", "killed", env=env)
    assert done.returncode != 0 and time.monotonic() - begun < 90
    assert "rank" in done.stderr and "SIGKILL" in done.stderr
    assert not (tmp_path / "job" / "f").exists() and (tmp_path / "job" / "b").exists()
    whole = launched(1, str(script), str(tmp_path / "job"), "none", "-", env=env)
    assert whole.stdout.strip().endswith("".join(letter * 3 for letter in "abcdefgh")), whole.stderr


@pytest.fixture(scope="module")
def model(dit, tmp_path_factory):
    from diffusers import DiTPipeline

    folder = tmp_path_factory.mktemp("models") / "tiny"
    DiTPipeline(dit.transformer, dit.vae, dit.scheduler).save_pretrained(folder)
    return folder


def told(count, *command):
    done = launched(count, "-m", "ptq4dit", *map(str, command), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout[done.stdout.index("{") :])


def test_one_two_and_three_processes_make_the_same(model, tmp_path):
    """Calibration, pictures and metrics, to the last bit."""
    few = ("--timesteps", 2, "--samples", 20, "--steps", 2)
    for count in (1, 2, 3):
        told(count, "calibrate", model, "--out", tmp_path / f"{count}.safetensors", *few)
    hashes = {(tmp_path / f"{count}.safetensors").read_bytes() for count in (1, 2, 3)}
    assert len(hashes) == 1
    stats = tmp_path / "1.safetensors"
    known = ptq4dit.Calibration.load(stats)
    whole = ptq4dit.calibrate(ptq4dit.load(model), known.config)
    for layer in whole.layers:
        assert torch.equal(whole.activation_max[layer], known.activation_max[layer])
        assert torch.equal(whole.samples[layer], known.samples[layer])
    asked = ("evaluate", model, "--calibration", stats, "--pictures", 40, "--steps", 2, "--no-ssc")
    one, three = (told(count, *asked, "--npz", tmp_path / f"{count}.npz") for count in (1, 3))
    assert one["metrics"] == three["metrics"] and len(one["metrics"]["psnr_each"]) == 40
    pictures = [np.load(tmp_path / f"{count}.npz")["arr_0"] for count in (1, 3)]
    assert pictures[0].dtype == np.uint8 and pictures[0].shape == (40, 16, 16, 3)
    assert (pictures[0] == pictures[1]).all()


def test_another_number_of_processes_goes_on(model, tmp_path):
    file = tmp_path / "c.safetensors"
    asked = ("calibrate", model, "--out", file, "--timesteps", 2, "--samples", 24, "--steps", 2)
    cost = told(2, *asked, "--dry-run")
    assert (cost["parts"], cost["parts_done"], cost["processes"]) == (3, 1, 2) and not file.exists()
    assert cost["memory_mb_each"] > 100 and cost["disk_mb"] > 0
    assert main(["calibrate", str(model), "--out", str(file), "--timesteps", "1", "--steps", "2"]) == 2
    assert main(list(map(str, asked))) == 0
    assert file.exists() and not (tmp_path / "c.safetensors.parts").exists()
