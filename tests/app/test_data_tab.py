"""Data & API: every chart as CSV, PNG and SVG; sources named; the client's snippet runs as pasted."""

import csv
import io
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import gradio as gr
import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from app.content.code import HOLE, template
from app.figures.export.picture import chart_picture, printed
from app.figures.export.table import HEADING, chart_rows
from app.services.loading import is_loaded
from app.services.result_files import model_results
from app.services.sources import sources, whose
from app.state import Selection
from app.tabs import data_handlers as handlers
from app.tabs import inspect_api
from app.tabs.data_charts import CHARTS
from tests.long_form import usually

SELECTED = list(vars(Selection(model="demo", layer="blocks.0.fc1")).values())


def offered(key, *offers):
    """What is offered of a chart, by the endings of its files."""
    files = {}
    for offer in offers:
        making = offer(key, *SELECTED)
        path = next(making)
        files[path.rsplit(".", 1)[1]] = Path(path).read_bytes()
        making.close()
    return files


@pytest.mark.parametrize("key", CHARTS)
def test_every_chart_is_offered_as_data_and_picture(explored_once, key):
    files = offered(key, handlers.offer_csv, handlers.offer_svg)
    comment, heading, *rows = csv.reader(io.StringIO(files["csv"].decode()))
    assert comment[0].startswith(f"# {CHARTS[key].title}") and "Source: " in ",".join(comment)
    assert tuple(heading) == HEADING and len(rows) >= 1
    assert b"<svg" in files["svg"][:2000] and b"/home/" not in files["svg"]
    figure, provenance = handlers.preview(key, *SELECTED)
    assert figure.type == "plotly" and "Source: " in provenance


@pytest.mark.parametrize("key", usually(CHARTS, list(CHARTS)[:1]))
def test_a_chart_is_offered_for_the_screen_and_for_print(explored_once, key):
    files = offered(key, handlers.offer_png, handlers.offer_pdf)
    assert Image.open(io.BytesIO(files["png"])).size[0] > 500
    assert files["pdf"].startswith(b"%PDF")


def test_rows_are_the_points_with_their_intervals():
    figure = go.Figure()
    figure.add_scatter(name="a", x=[1, 2], y=[0.5, None], error_y={"array": [0.1, 0], "arrayminus": [0.2, 0]})
    figure.add_heatmap(name="b", x=[7, 8], y=[9], z=[[0.25, 0.75]])
    assert list(chart_rows(figure))[1:] == [
        ("a", 1, "0.5", "", "0.3", "0.6"),
        ("a", 2, "", "", "", ""),
        ("b", 7, 9, "0.25", "", ""),
        ("b", 8, 9, "0.75", "", ""),
    ]


def test_printed_charts_keep_series_scales_and_directions():
    figure = go.Figure(layout={"yaxis": {"type": "log", "range": [0, 2], "title": {"text": "error"}}})
    figure.add_scatter(name="first", x=np.arange(3), y=np.array([1.0, 10.0, 100.0]), mode="lines+markers")
    figure.update_xaxes(autorange="reversed")
    axes = printed(figure).axes[0]
    assert axes.get_yscale() == "log" and axes.get_ylim() == (1.0, 100.0) and axes.get_ylabel() == "error"
    assert axes.xaxis_inverted()
    assert list(axes.lines[0].get_ydata()) == [1.0, 10.0, 100.0]
    assert axes.get_legend().get_texts()[0].get_text() == "first"
    axes.figure.draw_without_rendering()
    assert axes.get_legend().get_window_extent().y0 >= axes.bbox.y1 - 2  # above the data
    assert chart_picture(figure, "svg") != chart_picture(figure, "png")


def test_sources_name_the_command_and_no_path_of_the_machine():
    found = {source.file.rsplit("/", 1)[1]: source for source in sources("demo")}
    assert found["results.json"].command == "python assets/recipes/results.py"
    assert found["results.json"].backend == "simulated"
    assert all(not source.file.startswith("/") and source.holds for source in found.values())
    assert len(handlers.files("demo")["rows"]) == len(found)


def test_results_at_the_salience_dial_are_the_models_own(explored_once, monkeypatch):
    """Their weights are the model's, raised; which is only known once it is in memory."""
    assert is_loaded("demo", within=60)
    found = {source.file.rsplit("/", 1)[1]: source.of for source in sources("demo")}
    assert found["sensitivity.json"] == "demo" and found["sensitivity-x8.json"] == "demo, salience x 8"
    content = {"settings": {"strength": 4}, "model_fingerprint": "0" * 32}
    assert whose("demo", content) == "other weights: not shown"
    monkeypatch.setattr("app.services.sources.is_loaded", lambda model: False)
    assert whose("demo", content) == "demo, salience x 4: checked where it is shown"


def test_how_the_app_feels_is_told_with_its_bars(explored_once):
    shown = handlers.feel("demo")
    content = model_results("demo", "feel.json")
    assert [row["cells"][0] for row in shown["rows"]] == [
        "4 s",
        "250 ms",
        "1000 ms",
        "2 s",
        "0.5 s",
        "2% more in the second half",
    ]
    assert f"{content['comparison_s']:.1f} s" == shown["rows"][3]["cells"][1]
    assert max(one["p95"] for one in content["changes_ms"].values()) == content["change_p95_ms"]
    assert handlers.feel("tiny")["rows"] == []


def test_the_readme_tells_the_same():
    text = (Path(__file__).parents[2] / "app" / "README.md").read_text()
    table = text.split("<!-- feel table -->")[1].split("<!-- end of feel table -->")[0]
    for row in handlers.feel("demo")["rows"]:
        assert f"| {row['title']} | {row['cells'][0]} | {row['cells'][1]} |" in table


def test_a_program_asks_for_a_charts_data(explored_once):
    answer = handlers.chart_data("inspect-channels", weight_bits=8)
    assert answer["columns"] == list(HEADING) and answer["made_by"] == "none" and len(answer["rows"]) > 10
    with pytest.raises(gr.Error, match=r"expected one of start.*got 'huh'"):
        handlers.chart_data("huh")
    with pytest.raises(gr.Error, match="ssc: needs csb"):
        handlers.chart_data(csb=False)


def filled(selection, address, channel):
    """The program as the page's script fills it in."""
    bits = f"W{selection.weight_bits}A{selection.activation_bits}"
    holes = asdict(selection) | {"address": address, "bits": bits, "rounded": bits, "channel": channel}
    return HOLE.sub(lambda hole: repr(holes[hole[1]]), template())


def test_the_program_runs_as_copied(explored_model, stored_page):
    chosen = Selection(model="tiny", layer="blocks.1.fc1", class_id=3, steps=3)
    program = filled(chosen, stored_page, 5)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"W4A8, \w+, CSB\+SSC [\d.]+ dB .*\.png", ran.stdout)
    assert "['series', 'x', 'y', 'value', 'low', 'high']" in ran.stdout
    own = inspect_api.layer_salience("blocks.1.fc1", strength=8)
    assert f"{max(own['activation'])} {max(own['balanced_activation'])}" in ran.stdout
    (address,) = re.findall(rf"{stored_page}\S*channel=5\S*", ran.stdout)
    assert Selection.from_query(dict(parse_qsl(urlsplit(address).query))) == (
        replace(chosen, class_id=8, steps=25, channel=5),
        [],
    )


@pytest.fixture
def stored_page():
    """Address of the whole page, served."""
    from app.page import build

    page = build()
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True)
    yield url
    page.close()
