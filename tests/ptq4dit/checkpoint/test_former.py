"""A checkpoint in the former format, kept as it was written."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ptq4dit
from ptq4dit.quantized.convert import describe

FORMER = Path(__file__).parents[1] / "format_3"


def test_it_still_loads_and_draws_what_it_drew():
    for model in (ptq4dit.load_quantized(FORMER / "w4a8"), ptq4dit.load(FORMER / "w4a8")):
        picture = load_file(FORMER / "image.safetensors")["image"]
        torch.testing.assert_close(ptq4dit.generate(model, [1, 4], steps=3), picture, rtol=1e-4, atol=1e-4)
        assert describe(model)["label"] == "W4A8" and model.source == "assets/demo"
        assert model.transformer.ptq4dit_record.config.balance_inputs is True


def test_it_can_be_saved_in_the_present_format(tmp_path):
    model = ptq4dit.load_quantized(FORMER / "w4a8")
    shutil.copytree(FORMER / "w4a8", tmp_path / "model")
    ptq4dit.save_quantized(model, tmp_path / "model")
    assert (tmp_path / "model" / "model_index.json").is_file()
    assert not (tmp_path / "model" / "transformer" / "quantized.safetensors").exists()
    again = ptq4dit.load_quantized(tmp_path / "model")
    assert torch.equal(ptq4dit.generate(again, [1, 4], steps=3), ptq4dit.generate(model, [1, 4], steps=3))
    assert describe(again) == describe(model)


def test_damage_is_one_sentence(tmp_path):
    shutil.copytree(FORMER / "w4a8", tmp_path / "model")
    weights = tmp_path / "model" / "transformer" / "quantized.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ValueError, match="damaged file"):
        ptq4dit.load_quantized(tmp_path / "model")
