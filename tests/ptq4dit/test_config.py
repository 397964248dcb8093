import pytest

from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig


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
