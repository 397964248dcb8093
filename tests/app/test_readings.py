"""The lines under the charts say what hand-made numbers say."""

import numpy as np

from app.content import readings

TIMESTEPS = np.array([900, 500, 100])


def test_fc2_says_why_it_is_not_balanced():
    assert "GELU" in readings.error_reading({"none": 0.1}, 4, 8)


def test_heatmap():
    salience = np.ones((3, 20))
    salience[:, :10] = 2
    salience[:, 7] = [9, 3, 3]
    text = readings.heatmap_reading(TIMESTEPS, salience)
    assert "Channel **7** varies **3.0-fold**" in text
    assert "at timestep 900, 10 are still among the 10 most salient at 100" in text


def test_error():
    better = readings.error_reading({"none": 0.02, "csb": 0.01, "csb+ssc": 0.005}, 4, 8)
    assert "At W4A8" in better and "**2%** without" in better and "1% with CSB and **0.5%**" in better
    assert "4x less (simulated)" in better
    assert "2x more" in readings.error_reading({"none": 0.01, "csb": 0.01, "csb+ssc": 0.02}, 4, 8)
    assert "nothing is rounded" in readings.error_reading({"none": 0.0, "csb": 4e-15, "csb+ssc": 4e-15}, 16, 16)


def test_summary_names_model_and_layer_and_the_dial_only_where_it_is_turned():
    told = [readings.summary("demo", "blocks.0.fc1", 16, strength, "fc1", ("ff.net.0.proj",)) for strength in (8, 1)]
    assert ["function unchanged" in text for text in told] == [True, False]
    assert all(text.startswith("**blocks.0.fc1** of demo, 16 input channels") for text in told)
    other = readings.summary("flux", "single.3.qkv_mlp", 16, 1, "qkv_mlp", ("attn.to_q", "proj_mlp"))
    assert "read by attn.to_q, proj_mlp" in other  # a family's own role is told by what it is


def test_balancing_is_explained_where_it_is_not_free():
    assert readings.balancing_note(True, False, "") == ""
    assert "GELU" in readings.balancing_note(False, False, "behind a GELU")
    assert "(behind a GELU)" in readings.balancing_note(True, True, "behind a GELU")
