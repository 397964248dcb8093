"""Inspect's charts by the data in them, not by their pixels."""

import json

import numpy as np
import pytest

from app.components.chart import shown
from app.figures.inspect.channels import channels_figure
from app.figures.inspect.complementarity import complementarity_figure
from app.figures.inspect.error import error_figure, error_over_time_figure
from app.figures.inspect.heatmap import heatmap_figure
from app.figures.inspect.sheet import sheet_figure
from app.figures.inspect.timesteps import timesteps_figure

ACTIVATION, WEIGHT = np.array([4.0, 1.0, 2.0]), np.array([0.5, 0.1, 0.2])
BALANCED = np.array([1.4, 0.3, 0.6]), np.array([1.4, 0.3, 0.6])
TIMESTEPS = np.array([900, 500, 100])
RHO, ETA = np.array([-0.2, 0.1, 0.5]), np.array([0.5, 0.3, 0.2])
ERRORS = {"none": 0.04, "csb": 0.02, "csb+ssc": 0.01}
OVER_TIME = {key: value * np.array([1.5, 1.0, 0.5]) for key, value in ERRORS.items()}


def test_channels_show_both_sides_before_and_after_in_the_given_order():
    figure = channels_figure(ACTIVATION, WEIGHT, BALANCED, np.array([0, 2, 1]), "linear")
    assert [trace.name for trace in figure.data] == ["activation", "balanced", "weight", "balanced"]
    np.testing.assert_allclose(figure.data[0].y, [4, 2, 1])
    np.testing.assert_allclose(figure.data[2].y, [0.5, 0.2, 0.1])
    np.testing.assert_array_equal(figure.data[0].customdata, [0, 2, 1])
    assert [trace.yaxis for trace in figure.data] == ["y", "y", "y2", "y2"]
    assert figure.layout.yaxis2.autorange == "reversed"
    (named,) = figure.layout.annotations
    assert (named.text, named.x, named.y) == ("<b>0</b>", 0, 4)


def test_channels_without_balancing_show_no_balanced_trace():
    figure = channels_figure(ACTIVATION, WEIGHT, None, np.arange(3), "linear")
    assert [trace.name for trace in figure.data] == ["activation", "weight"]


def test_channels_as_times_the_median_and_on_a_log_axis():
    figure = channels_figure(ACTIVATION, WEIGHT, None, np.arange(3), "median")
    np.testing.assert_allclose(figure.data[0].y, [2, 0.5, 1])
    assert figure.layout.annotations[0].y == 2
    assert figure.layout.yaxis.title.text == "activation, x median"
    assert channels_figure(ACTIVATION, WEIGHT, None, np.arange(3), "log").layout.yaxis.type == "log"


@pytest.mark.parametrize("used", [True, False])
def test_timesteps_show_rho_and_say_whether_the_weights_count(used):
    figure = timesteps_figure(TIMESTEPS, RHO, None, ETA, used, 500)
    np.testing.assert_allclose(figure.data[0].y, RHO)
    np.testing.assert_allclose(figure.data[1].y, ETA)
    assert ("not in use" in figure.data[1].name) is not used
    assert figure.layout.shapes[0].x0 == figure.layout.shapes[0].x1 == 500
    assert len(timesteps_figure(TIMESTEPS, RHO, RHO, ETA, used, 500).data) == 3


def test_heatmap_is_log_salience_in_the_given_order():
    salience = np.array([[1.0, 10.0], [100.0, 1.0], [0.1, 0.0]])
    figure = heatmap_figure(TIMESTEPS, salience, np.array([1, 0]), 100)
    np.testing.assert_allclose(figure.data[0].z, [[1, 0], [0, 2], [-6, -1]], atol=1e-6)
    np.testing.assert_array_equal(figure.data[0].customdata[0], [1, 0])
    assert figure.layout.shapes[0].y0 == 100


def test_complementarity_has_a_dot_a_channel():
    figure = complementarity_figure(ACTIVATION, WEIGHT, BALANCED)
    np.testing.assert_allclose(figure.data[0].x, ACTIVATION)
    np.testing.assert_allclose(figure.data[1].y, BALANCED[1])
    assert len(complementarity_figure(ACTIVATION, WEIGHT, None).data) == 1


def test_errors_are_percentages_and_the_chosen_one_stands_out():
    bars = error_figure(ERRORS, "csb").data[0]
    np.testing.assert_allclose(bars.y, [4, 2, 1])
    assert bars.text == ("4%", "2%", "1%")
    assert max(bars.marker.opacity) == bars.marker.opacity[1] > bars.marker.opacity[0]
    lines = error_over_time_figure(TIMESTEPS, OVER_TIME, "csb", 900).data
    np.testing.assert_allclose(lines[0].y, [6, 4, 2])
    assert lines[1].line.width > lines[0].line.width


def test_a_shown_figure_is_valid_json_without_a_tool_bar():
    sent = json.loads(shown(error_figure({"none": 0.5}, "none")).plot)
    assert sent["config"]["displayModeBar"] is False
    assert sent["data"][0]["y"] == [50.0]


def test_sheet_holds_all_charts():
    figure = sheet_figure(
        title="blocks.0.fc1",
        activation=ACTIVATION,
        weight=WEIGHT,
        balanced=BALANCED,
        timesteps=TIMESTEPS,
        rho=RHO,
        weights=ETA,
        salience=np.ones((3, 3)),
        errors=ERRORS,
        errors_over_time=OVER_TIME,
        timestep=500,
    )
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert {"activation salience", "weight salience", "rho", "timestep", "error, % of the output"} <= set(labels)
    errors = next(axes for axes in figure.axes if axes.get_ylabel().startswith("error"))
    np.testing.assert_allclose(errors.lines[2].get_ydata(), 100 * OVER_TIME["csb+ssc"])
