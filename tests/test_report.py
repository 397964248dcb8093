"""The READMEs' tables of methods are those that the stored results make."""

import json
from pathlib import Path
from types import ModuleType

import pytest

RECIPES = Path(__file__).resolve().parents[1] / "assets" / "recipes"


@pytest.fixture
def benchmark_report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(RECIPES))
    return __import__("benchmark_report")


def test_the_readmes_show_what_was_measured(benchmark_report: ModuleType) -> None:
    for path, text in benchmark_report.texts().items():
        assert path.read_text() == text, path
    parts = benchmark_report.parts_table(json.loads(benchmark_report.PARTS.read_text()))
    assert "| W4A8 | ours |" in parts and "| W4A6 | ours |" in parts


def test_an_arrow_says_that_the_interval_of_the_difference_holds_no_zero(benchmark_report: ModuleType) -> None:
    def made(values: list[float]) -> dict[str, object]:
        return {"metrics": {"psnr": {"mean": sum(values) / len(values)}}, "psnr_each": values}

    results = {"ptq4dit": [20.0, 30.0, 25.0], "better": [21.0, 31.1, 26.0], "same": [22.0, 28.0, 25.3]}
    content = {"results": {f"x1/W4A8/{name}": made(values) for name, values in results.items()}}
    assert benchmark_report.compared(content, 1, "W4A8", "better") == "26.0 ↑"
    assert benchmark_report.compared(content, 1, "W4A8", "same") == "25.1"
    assert benchmark_report.compared(content, 1, "W4A8", "ptq4dit") == "25.0"
