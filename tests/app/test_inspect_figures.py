"""Inspect's charts by the data in them, not by their pixels."""

import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.patches import StepPatch

from app.components.chart import shown
from app.figures.inspect.channels import channels_figure
from app.figures.inspect.complementarity import complementarity_figure
from app.figures.inspect.content import Content, Quiet
from app.figures.inspect.error import error_figure, error_over_time_figure
from app.figures.inspect.heatmap import heatmap_figure
from app.figures.inspect.sheet import CHARTS, sheet_figure
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


CONTENT = Content(
    title="blocks.0.fc1",
    activation=ACTIVATION,
    weight=WEIGHT,
    balanced=BALANCED,
    order=np.array([2, 0]),
    timesteps=TIMESTEPS,
    rho=RHO,
    rho_balanced=RHO + 0.1,
    weights=ETA,
    salience=np.ones((3, 3)),
    errors=ERRORS,
    errors_over_time=OVER_TIME,
    channel_errors={"none": np.array([0.1, 0.2, 0.3]), "csb": np.array([0.3, 0.2, 0.1])},
    timestep=500,
)
OTHER = Quiet(
    name="another",
    activation=2 * ACTIVATION,
    weight=3 * WEIGHT,
    timesteps=TIMESTEPS[:2],
    rho=-RHO[:2],
    weights=ETA[:2],
    errors=np.array([0.5, 0.25]),
    channel_errors=np.array([0.6, 0.5, 0.4]),
)


def axes_of(figure, label):
    return next(axes for axes in figure.axes if axes.get_ylabel().startswith(label))


def steps(axes):
    """The staircases drawn, by label."""
    return {patch.get_label(): patch.get_data().values for patch in axes.patches if isinstance(patch, StepPatch)}


def test_sheet_holds_all_charts():
    figure = sheet_figure(CONTENT)
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert {"activation salience", "weight salience", "rho", "eta", "timestep", "error, % of the output"} <= set(labels)
    np.testing.assert_allclose(axes_of(figure, "error, %").lines[2].get_ydata(), 100 * OVER_TIME["csb+ssc"])
    np.testing.assert_allclose(steps(axes_of(figure, "error in"))["no balancing"], [30, 10])
    for axes in figure.axes:  # a legend stands above the data
        if axes.get_legend() is not None:
            figure.draw_without_rendering()
            assert axes.get_legend().get_window_extent().y0 >= axes.bbox.y1 - 2


def test_charts_follow_the_readers_look():
    seen = replace(CONTENT, scale="log", stage="after")
    upper = axes_of(sheet_figure(seen, "channels"), "activation salience")
    assert upper.get_yscale() == "log" and list(steps(upper)) == ["balanced"]
    np.testing.assert_allclose(steps(upper)["balanced"], BALANCED[0][[2, 0]])
    halved = replace(CONTENT, scale="median", stage="before", balanced=None)
    upper = axes_of(sheet_figure(halved, "channels"), "activation salience, x median")
    np.testing.assert_allclose(steps(upper)["activation"], [1, 2])
    lower = sheet_figure(halved, "channels").axes[1]
    assert [tick.get_text() for tick in lower.get_xticklabels()] == ["2", "0"]


@pytest.mark.parametrize("chart", CHARTS)
def test_every_chart_stands_alone_and_lies_over_the_reference(chart):
    content = replace(CONTENT, quiet=OTHER, channel=0)
    figure = sheet_figure(content, chart)
    named = [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()]
    assert ("reference: another" in named) == (chart != "heatmap")


def test_the_reference_is_drawn_with_its_own_numbers():
    figure = sheet_figure(replace(CONTENT, quiet=OTHER))
    np.testing.assert_allclose(steps(axes_of(figure, "activation"))["reference: another"], [4, 8])
    np.testing.assert_allclose(axes_of(figure, "rho").lines[2].get_ydata(), -RHO[:2])
    np.testing.assert_allclose(axes_of(figure, "error, %").lines[3].get_ydata(), [50, 25])
    few = replace(OTHER, activation=np.ones(2), weight=np.ones(2), channel_errors=np.ones(2))
    alone = sheet_figure(replace(CONTENT, quiet=few))
    assert "reference: another" not in steps(axes_of(alone, "activation"))
    assert axes_of(alone, "rho").lines[2].get_label() == "reference: another"
