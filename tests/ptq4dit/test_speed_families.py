"""The measurement of other families' speed, on models of a few kilobytes."""

import pytest

from ptq4dit.speed import families
from ptq4dit.speed.families import FamilySpeed, markdown, measure_family


@pytest.mark.parametrize("name", ["sd3", "pixart"])
def test_everybody_is_timed_and_every_product_counted(name, monkeypatch):
    for constant, value in {"WIDTH": 32, "HEADS": 2, "SIDE": 8, "TEXT": 5, "TEXT_WIDTH": 16}.items():
        monkeypatch.setattr(families, constant, value)
    content = measure_family(FamilySpeed(family=name, blocks=1, rounds=2, threads=1), {})
    found = content["contestants"]
    assert list(found) == ["torch-fp32", "openvino-fp32", "ours-w8a8", "ours-w8a8-fixed", "ours-w4a8"]
    assert all(result["ms"] > 0 for result in found.values())
    assert found["torch-fp32"]["speedup"] == 1 and found["openvino-fp32"]["over_openvino"] == 1
    assert found["openvino-fp32"]["error"] < 1e-4 < found["ours-w8a8"]["error"] < found["ours-w4a8"]["error"] < 1
    good, whole = found["ours-w8a8"]["products"].split(" of ")
    assert good == whole != "0" and found["ours-w8a8"]["products"] in markdown(content)


def test_refuses_a_family_that_it_does_not_know():
    with pytest.raises(ValueError, match=r"among \('sd3', 'pixart'\), got 'other'"):
        measure_family(FamilySpeed(family="other"), {})
