"""The lines under the charts say what hand-made numbers say."""

import numpy as np

from app.content import readings

TIMESTEPS = np.array([900, 500, 100])


def test_channels():
    activation, weight = np.array([2.0, 8.2, 1.0, 2.0]), np.array([3.0, 1.0, 2.0, 4.0])
    text = readings.channels_reading(activation, weight, None, "fc1")
    assert "Channel **1**" in text and "**4.1x** the median" in text and "4 channels it ranks 4" in text
    balanced = np.array([1.0, 3.0, 1.0, 1.0]), np.array([2.0, 2.0, 5.0, 2.0])
    text = readings.channels_reading(activation, weight, balanced, "fc1")
    assert "3.0x the median in the activation and 2.5x in the weight" in text
    assert "GELU" not in text


def test_fc2_says_why_it_is_not_balanced():
    values = np.array([1.0, 2.0, 3.0])
    assert "GELU" in readings.channels_reading(values, values, None, "fc2")
    assert "GELU" in readings.error_reading({"none": 0.1}, 4, 8)


def test_timesteps():
    rho, weights = np.array([-0.001, 0.4, -0.5]), np.array([0.3, 0.2, 0.5])
    text = readings.timesteps_reading(TIMESTEPS, rho, weights, 0, True, True)
    assert "rho is **0.00** at timestep 900" in text
    assert "from -0.50 (timestep 100) to 0.40 (timestep 500)" in text
    assert "timestep 100 count 2.5x as much as timestep 500" in text
    assert "middle timestep only (500)" in readings.timesteps_reading(TIMESTEPS, rho, weights, 0, True, False)
    assert "Nothing is balanced" in readings.timesteps_reading(TIMESTEPS, rho, weights, 0, False, False)


def test_heatmap():
    salience = np.ones((3, 20))
    salience[:, :10] = 2
    salience[:, 7] = [9, 3, 3]
    text = readings.heatmap_reading(TIMESTEPS, salience)
    assert "Channel **7** varies **3.0-fold**" in text
    assert "at timestep 900, 10 are still among the 10 most salient at 100" in text


def test_complementarity():
    up, down = np.arange(40.0), np.arange(40.0)[::-1]
    assert "**0** are also" in readings.complementarity_reading(up, down)
    assert "**10** are also" in readings.complementarity_reading(up, up)
    one = down.copy()
    one[39] = 100
    assert "**1** is also" in readings.complementarity_reading(up, one)


def test_error():
    better = readings.error_reading({"none": 0.02, "csb": 0.01, "csb+ssc": 0.005}, 4, 8)
    assert "At W4A8" in better and "**2%** without" in better and "1% with CSB and **0.5%**" in better
    assert "4x less (simulated)" in better
    assert "2x more" in readings.error_reading({"none": 0.01, "csb": 0.01, "csb+ssc": 0.02}, 4, 8)
    assert "nan" not in readings.error_reading({"none": 0.0, "csb": 0.0, "csb+ssc": 0.0}, 16, 16)
    text = readings.error_over_time_reading(TIMESTEPS, {"csb": np.array([0.03, 0.01, 0.02])}, "csb")
    assert "largest at timestep **900** (3%) and smallest at 500 (1%)" in text


def test_summary_names_the_dial_only_where_it_is_turned():
    assert "function unchanged" in readings.summary("blocks.0.fc1", 16, 500, 8)
    assert "function unchanged" not in readings.summary("blocks.0.fc1", 16, 500, 1)
