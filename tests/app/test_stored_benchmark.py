"""The stored benchmark: whichever cells exist are read, ordered and paired; no torch, no path of the machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.services.stored_benchmark import Setting, gains, read_benchmark

ROOT = Path(__file__).resolve().parents[2]
W4 = Setting(strength=1, bits="W4A8")


def test_cells_are_sorted_into_tables_and_factorials(benchmark_folder):
    stored = read_benchmark(benchmark_folder)
    assert list(stored.table(W4)) == ["rtn", "ptq4dit", "unheard"]  # registry's order, the unknown last
    assert stored.table(W4)["rtn"].metrics["psnr"].mean == 21.0
    assert stored.table(W4)["rtn"].metrics["psnr"].low is None
    assert list(stored.factorials[W4]) == ["none", "csb+ssc+dynamic+reconstruction"]
    assert stored.table(Setting(strength=8, bits="W2A8")) == {}
    assert stored.missing(W4) == ["GPTQ"]


def test_differences_are_paired(benchmark_folder):
    found = gains(read_benchmark(benchmark_folder).table(W4), "ptq4dit")
    assert set(found) == {"rtn"}  # the base and what has no pictures are left out
    assert found["rtn"].mean == pytest.approx(-3.0)
    assert found["rtn"].low < -3.0 < found["rtn"].high < 0


def test_the_nearest_measured_setting_answers(benchmark_folder):
    stored = read_benchmark(benchmark_folder)
    assert stored.nearest(1, 3, 8) == W4
    assert stored.nearest(16, 8, 8) == Setting(strength=8, bits="W8A8")


def test_a_missing_file_names_the_command_and_no_path(tmp_path):
    with pytest.raises(ValueError, match="run python -m ptq4dit benchmark") as told:
        read_benchmark(tmp_path)
    assert str(tmp_path) not in str(told.value)


def test_another_format_is_refused(benchmark_folder):
    file = benchmark_folder / "benchmark.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": "huh"}))
    with pytest.raises(ValueError, match="expected format ptq4dit-benchmark-1, got huh"):
        read_benchmark(benchmark_folder)


def test_a_broken_file_is_refused(tmp_path):
    (tmp_path / "benchmark.json").write_text("{")
    with pytest.raises(ValueError, match=r"expected a JSON object in benchmark\.json"):
        read_benchmark(tmp_path)


def test_reading_and_pairing_need_no_torch():
    code = (
        "import sys\nfrom app.services.stored_benchmark import load_benchmark, gains\n"
        "try:\n    [gains(cells, 'ptq4dit') for cells in load_benchmark('demo').tables.values()]\n"
        "except ValueError:\n    pass\n"
        "import ptq4dit.metrics.interval\nsys.exit(bool({'torch', 'diffusers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
