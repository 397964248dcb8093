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
from PIL import Image
from safetensors import safe_open

import ptq4dit
from ptq4dit.cli import main
from ptq4dit.parallel import Job, Processes, processes, ranges
from ptq4dit.sharing import shared, split, team, together
from tests.ptq4dit.launching import Launcher

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


def test_a_job_that_comes_to_nothing_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        letters(tmp_path / "job").run(lambda *_: 1 / 0)
    assert not any(tmp_path.iterdir())


def test_files_of_somebody_else_in_the_folder_stay(tmp_path):
    """A person may name any folder for the parts."""
    others = [tmp_path / "mine.txt", tmp_path / ".unfinished-business"]
    for other in others:
        other.write_text("mine")
    with pytest.raises(ZeroDivisionError):
        letters(tmp_path).run(lambda *_: 1 / 0)
    job = letters(tmp_path)
    job.run(write)
    job.clear()
    assert sorted(tmp_path.iterdir()) == sorted(others)


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


@pytest.fixture(scope="module")
def launch():
    with Launcher() as launch:
        yield launch


def told(launch, count, *command):
    done = launch(count, *command, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout[done.stdout.index("{") :])


def alone(capsys, *command):
    capsys.readouterr()
    assert main([*map(str, command), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_calibration_begun_by_one_process_and_finished_by_three(launch, model, tmp_path, capsys):
    asked = ("calibrate", model, "--timesteps", 2, "--samples", 28, "--steps", 2, "--out")
    one, three = tmp_path / "one.safetensors", tmp_path / "three.safetensors"
    alone(capsys, *asked, one)
    cost = alone(capsys, *asked, three, "--dry-run")
    assert (cost["parts"], cost["parts_done"], cost["processes"]) == (4, 1, 1) and not three.exists()
    assert cost["memory_mb_each"] > 100 and cost["disk_mb"] > 0
    assert main([*map(str, asked), str(three), "--guidance", "2"]) == 2
    assert "Expected guidance_scale=4.0, as of the parts in" in capsys.readouterr().err
    told(launch, 3, *asked, three)
    assert not three.with_name("three.safetensors.parts").exists()
    first, other = (safe_open(file, framework="pt") for file in (one, three))
    assert other.metadata() == first.metadata() and other.keys() == first.keys()
    assert all(torch.equal(other.get_tensor(name), first.get_tensor(name)) for name in first.keys())  # noqa: SIM118
    known = ptq4dit.Calibration.load(one)
    whole = ptq4dit.calibrate(ptq4dit.load(model), known.config)
    for layer in whole.layers:
        assert torch.equal(whole.activation_max[layer], known.activation_max[layer])
        assert torch.equal(whole.samples[layer], known.samples[layer])


def test_two_processes_measure_what_one_does(launch, model, tmp_path, capsys):
    stats = tmp_path / "c.safetensors"
    ptq4dit.calibrate(
        ptq4dit.load(model), ptq4dit.CalibrationConfig(timesteps=2, steps=2, samples_per_timestep=2)
    ).save(stats)
    asked = ("evaluate", model, "--calibration", stats, "--pictures", 40, "--steps", 2, "--no-ssc", "--npz")
    one, two = alone(capsys, *asked, tmp_path / "1.npz"), told(launch, 2, *asked, tmp_path / "2.npz")
    assert one["metrics"] == two["metrics"] and len(one["metrics"]["psnr_each"]) == 40
    pictures = [np.load(tmp_path / f"{count}.npz")["arr_0"] for count in (1, 2)]
    assert pictures[0].dtype == np.uint8 and pictures[0].shape == (40, 16, 16, 3)
    assert (pictures[0] == pictures[1]).all()


def test_rows_of_a_benchmark_are_shared_out(launch, model, tmp_path, capsys):
    stats = tmp_path / "c.safetensors"
    ptq4dit.calibrate(
        ptq4dit.load(model), ptq4dit.CalibrationConfig(timesteps=2, steps=2, samples_per_timestep=2)
    ).save(stats)
    methods = ("--methods", "rtn", "smoothquant", "dynamic", "--bits", "W8A8", "--strengths", 1, "--no-factorial")
    asked = ("benchmark", model, "--calibration", stats, *methods, "--pictures", 5, "--seeds", 1, 2, "--steps", 2)
    one, two = (
        alone(capsys, *asked, "--out", tmp_path / "1.json"),
        told(launch, 2, *asked, "--out", tmp_path / "2.json"),
    )
    assert one["results"].keys() == two["results"].keys() and len(one["results"]) == 3
    for key, row in one["results"].items():
        assert two["results"][key]["metrics"] == row["metrics"], key


def test_pictures_in_parts_are_one_row(model, tmp_path, capsys):
    asked = ("sample", model, "--classes", *([1, 3] * 5), "--steps", 2, "--out", tmp_path / "row.png")
    cost = alone(capsys, *asked, "--dry-run")
    assert (cost["parts"], cost["parts_done"]) == (2, 1)
    alone(capsys, *asked)
    row = np.asarray(Image.open(tmp_path / "row.png"))
    images = ptq4dit.generate(ptq4dit.load(model), class_labels=[1, 3] * 5, steps=2)
    whole = (images.permute(2, 0, 3, 1).flatten(1, 2) * 255).round().byte().numpy()
    assert row.shape == (16, 160, 3) and np.abs(row.astype(int) - whole).max() <= 1
    assert not (tmp_path / "row.png.parts").exists()


def test_pieces_are_made_in_order_and_split_by_their_number_alone():
    assert list(shared("abc", lambda one: [one * 2, None])) == [["aa", None], ["bb", None], ["cc", None]]
    assert [list(part) for part in split(range(10), 4)] == [[0, 1], [2, 3, 4], [5, 6], [7, 8, 9]]
    assert [list(part) for part in split("ab", 24)] == [["a"], ["b"]] and split([], 3) == []
    with together():
        assert team() == Processes()


SHARING = """
import torch
from ptq4dit.parallel import processes
from ptq4dit.sharing import shared, team, together

def make(piece):
    assert team().count == 1, "work inside a piece is not shared any further"
    values = torch.full((3,), piece / 3, dtype=torch.float64)
    return [values, values > 1, torch.tensor(piece).to(torch.bfloat16), torch.empty(0, 4), processes().rank]

with together():
    made = list(shared(range(5), make))
assert team().count == 1
total = sum(values for values, *_ in made)
right = total.tolist() == [sum(i / 3 for i in range(5))] * 3
_, _, one, empty, _ = made[4]
print(
    f"{[rank for *_, rank in made]} {right} {[bool(one[0]) for _, one, *_ in made]} "
    f"{one.dtype} {float(one)} {tuple(empty.shape)}\\n", end="", flush=True
)  # in one piece, as both say it at once
"""


def test_each_piece_is_made_by_one_process_and_told_to_all(tmp_path):
    script = tmp_path / "share.py"
    script.write_text(SHARING)
    done = launched(2, str(script), env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
    said = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert said == ["[0, 1, 0, 1, 0] True [False, False, False, False, True] torch.bfloat16 4.0 (0, 4)"] * 2


SMALL_CHUNKS = """
import sys
import ptq4dit.reconstruction.data, ptq4dit.reconstruction.walk
from ptq4dit.cli import main
ptq4dit.reconstruction.data.CHUNK_TOKENS = ptq4dit.reconstruction.walk.CHUNK_TOKENS = 64
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def calibrated(model, tmp_path_factory):
    stats = tmp_path_factory.mktemp("calibrations") / "c.safetensors"
    config = ptq4dit.CalibrationConfig(timesteps=3, steps=3, samples_per_timestep=10)
    ptq4dit.calibrate(ptq4dit.load(model), config).save(stats)
    return stats


def quantized_by(launch, count, tmp_path, model, calibrated, out, *more, ends=0):
    """A checkpoint's integers and scales, made by so many processes, with many chunks of data to share."""
    script = tmp_path / "quantize.py"
    script.write_text(SMALL_CHUNKS)
    asked = ("quantize", model, "--calibration", calibrated, "--out", out, "--weight-bits", 4, *more)
    done = launch(count, *asked, script=script)
    assert done.returncode == ends, done.stderr
    return done.stderr if ends else ptq4dit.load_quantized(out).transformer.state_dict()


@pytest.mark.parametrize(
    "learned", [("--reconstruct", "--reconstruction-steps", 2), ("--method", "ours", "--weight-bits", 8)]
)
def test_integers_do_not_depend_on_the_number_of_processes(launch, model, calibrated, tmp_path, learned):
    """Closed form with a polish, and the search of factors: everything of the checkpoint, to the last bit."""
    one, two = (quantized_by(launch, n, tmp_path, model, calibrated, tmp_path / f"q{n}", *learned) for n in (1, 2))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert not list(tmp_path.glob("*.parts"))


def test_a_stopped_quantization_goes_on_with_other_processes(launch, model, calibrated, tmp_path):
    """Killed behind its first block; the second goes on there, and what is of another config is not mixed in."""
    out = tmp_path / "q"
    killed = SMALL_CHUNKS.replace(
        "sys.exit(main",
        "from ptq4dit.reconstruction.state import State\nsave = State.save\n"
        "State.save = lambda self, index, pair: (save(self, index, pair), index == 0 and __import__('os')._exit(9))\n"
        "sys.exit(main",
    )
    script = tmp_path / "killed.py"
    script.write_text(killed)
    asked = ("quantize", model, "--calibration", calibrated, "--out", out, "--weight-bits", 4, "--reconstruct")
    assert launch(1, *asked, script=script).returncode == 9
    parts = tmp_path / "q.parts"
    assert len(list(parts.glob("*-block-000.safetensors"))) == 1 and not out.exists()
    said = quantized_by(launch, 2, tmp_path, model, calibrated, out, "--reconstruct", "--weight-bits", 3, ends=2)
    assert "Expected weight_bits=4, as of the parts in" in said and "(process 1 of 2)" in said
    whole = quantized_by(launch, 1, tmp_path, model, calibrated, tmp_path / "whole", "--reconstruct")
    gone_on = quantized_by(launch, 3, tmp_path, model, calibrated, out, "--reconstruct")
    assert all(torch.equal(whole[name], gone_on[name]) for name in whole) and not parts.exists()


DYING = SMALL_CHUNKS.replace(
    "sys.exit(main",
    """import os
import ptq4dit.reconstruction.run as run
from ptq4dit.parallel import processes
learn = run._reconstruct_block
def dies(pair, data, used, config, index, report):
    if index == 1 and processes().rank == 1:
        os.kill(os.getpid(), 9)
    learn(pair, data, used, config, index, report)
run._reconstruct_block = dies
sys.exit(main""",
)


def test_a_process_that_dies_while_blocks_are_learned_ends_the_job(launch, model, calibrated, tmp_path):
    """The other says why within half a minute, by itself; the first block is on disk and is gone on from."""
    script, out = tmp_path / "dying.py", tmp_path / "q"
    script.write_text(DYING)
    asked = ("quantize", model, "--calibration", calibrated, "--out", out, "--weight-bits", 4, "--reconstruct")
    begun = time.monotonic()
    done = launch(2, *asked, script=script, patient=True)
    assert done.returncode == -9 and time.monotonic() - begun < 90
    assert "(process 0 of 2): Expected to share work with process 1 of 2, which has ended" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(list((tmp_path / "q.parts").glob("*-block-000.safetensors"))) == 1 and not out.exists()
