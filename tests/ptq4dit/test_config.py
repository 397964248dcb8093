import numpy as np
import pytest
import torch

from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import LayerConfig, QuantConfig
from ptq4dit.config.reconstruction import ReconstructionConfig


@pytest.mark.parametrize(
    "config",
    [
        QuantConfig(),
        QuantConfig(weight_bits=4, activation_bits=16, csb=False, ssc=False, activation_range="mse"),
        CalibrationConfig(),
        CalibrationConfig(timesteps=3, guidance_scale=1.5, seed=4, steps=9, first_sample=32),
    ],
)
def test_json_there_and_back(config):
    assert type(config).from_json(config.to_json()) == config


NUMPY = [
    (QuantConfig, {"weight_bits": np.int64(4), "group_size": np.int32(8), "csb": np.bool_(True)}),
    (QuantConfig, {"weight_bits": torch.tensor(4)}),
    (QuantConfig, {"overrides": {"*.fc2": {"weight_bits": np.uint8(8)}}}),
    (QuantConfig, {"method": "smoothquant", "options": {"alpha": np.float32(0.5)}}),
    (QuantConfig, {"reconstruction": {"steps": np.int64(3), "learning_rate": np.float32(0.5)}}),
    (CalibrationConfig, {"steps": np.int64(9), "timesteps": np.int16(3), "guidance_scale": np.float32(1.5)}),
    (ReconstructionConfig, {"steps": np.int64(3), "held_out": np.float64(0.25), "samples": np.int8(5)}),
    (LayerConfig, {"rank": np.int64(3), "rotation": np.bool_(True)}),
]


@pytest.mark.parametrize(("kind", "values"), NUMPY, ids=str)
def test_numbers_of_numpy_and_torch_are_numbers(untyped, kind, values):
    config = kind(**values)
    assert kind.from_json(config.to_json()) == config
    for name, value in values.items():
        if not isinstance(value, dict | str):
            assert getattr(config, name) == value and type(getattr(config, name)) in (bool, int, float)


@pytest.mark.parametrize(("kind", "values"), NUMPY[:1] + NUMPY[5:7], ids=str)
def test_what_is_no_number_is_refused(untyped, kind, values):
    for name, value in values.items():
        wrong = ("3", [3], None) if isinstance(value, np.bool_) else ("3", True, [3])
        for one in wrong:
            with pytest.raises(ValueError, match=f"Expected .*{name}"):
                kind(**{name: one})


def test_label():
    assert QuantConfig(weight_bits=4, activation_bits=8).label == "W4A8"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weight_bits": 1}, "weight_bits to be 2 to 8, or 16"),
        ({"activation_bits": 12}, "activation_bits to be 2 to 8, or 16"),
        ({"csb": False}, "ssc=True has nothing to act on"),
        ({"method": "magic"}, "method to be one of"),
        ({"backend": "gpu"}, "backend to be one of"),
    ],
)
def test_refuses_quantization(values, message):
    with pytest.raises(ValueError, match=message):
        QuantConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"timesteps": 0}, "timesteps to be an integer of at least 1"),
        ({"timesteps": 51}, "at most as many timesteps as sampling steps"),
        ({"samples_per_timestep": 0}, "samples_per_timestep"),
        ({"rows_per_timestep": 0}, "rows_per_timestep"),
        ({"seed": -1}, "seed to be an integer of at least 0"),
        ({"guidance_scale": 0.0}, "at least 1.0"),
        ({"guidance_scale": float("inf")}, "finite"),
    ],
)
def test_refuses_calibration(values, message):
    with pytest.raises(ValueError, match=message):
        CalibrationConfig(**values)


def test_refuses_unknown_fields():
    with pytest.raises(ValueError, match="got also \\['colour'\\]"):
        QuantConfig.from_json('{"colour": 1}')
