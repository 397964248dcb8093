"""The paper's figures: their data against the calibration recomputed by numpy and scipy, of two families; files."""

import csv
import io
import re

import gradio as gr
import numpy as np
import pytest
from matplotlib.cbook import boxplot_stats
from PIL import Image
from scipy.special import softmax
from scipy.stats import spearmanr

from app.figures.export.plates import plates_file, printed_plates
from app.figures.paper.boxes import DOTS, BoxesPlate
from app.figures.paper.over_time import READABLE, EtaPlate, RhoPlate
from app.figures.paper.salience import SaliencePlate, most_salient
from app.services import loading, models
from app.services.spread import spread
from app.state import FIELDS, Selection
from app.tabs import paper_figures
from tests.app.other_models import write_others

LAYERS = {"dit": "blocks.1.fc1", "sd3": "blocks.0.context.qkv"}


@pytest.fixture(scope="module", autouse=True)
def launched(make_dit, tmp_path_factory):
    """The app with a DiT and a Stable Diffusion 3."""
    folder = tmp_path_factory.mktemp("others")
    write_others(folder, make_dit(seed=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTQ4DIT_MODEL", "\n".join(str(folder / name) for name in ("dit", "sd3", "bare")))
        loading.forget_all()
        yield
    loading.forget_all()


def chosen(model, **more):
    return Selection(**({"model": model, "layer": LAYERS[model], "strength": 1} | more))


def values(selection):
    return [getattr(selection, name) for name in FIELDS]


def calibration(model):
    """Layer -> salience of activation (t, channel) and of the weight (channel,), and the timesteps."""
    stats = models.explored(model).stats
    pairs = {
        name: (stats.activation_salience[name].double().numpy(), stats.weight_salience[name].double().numpy())
        for name in stats.layers
    }
    return pairs, np.asarray(stats.timesteps)


@pytest.mark.parametrize("model", LAYERS)
def test_salience_is_the_calibrations_at_the_timestep(model):
    pairs, timesteps = calibration(model)
    activation, weight = pairs[LAYERS[model]]
    for timestep in (0, 999):
        plate = paper_figures.plate("salience", False, chosen(model, timestep=timestep))
        marks = timesteps * 1000 if timesteps.max() <= 1 else timesteps
        at = int(np.abs(marks - timestep).argmin())
        np.testing.assert_allclose(plate.activation, activation[at], rtol=1e-6)
        np.testing.assert_allclose(plate.weight, weight, rtol=1e-6)
        rows = list(plate.rows())
        assert rows[3] == (3, pytest.approx(activation[at, 3]), pytest.approx(weight[3]))
        upper, lower = plate.page().data
        np.testing.assert_allclose(upper.y, activation[at], rtol=1e-6)
        np.testing.assert_allclose(lower.y, weight, rtol=1e-6)
        assert plate.page().layout.annotations[0].text == str(activation[at].argmax())


@pytest.mark.parametrize("model", LAYERS)
def test_boxes_are_tukeys(model):
    pairs, timesteps = calibration(model)
    activation, _ = pairs[LAYERS[model]]
    plate = paper_figures.plate("boxes", False, chosen(model))
    for i, expected in enumerate(boxplot_stats(activation.T)):
        parts = (plate.low, plate.first, plate.median, plate.third, plate.high)
        names = ("whislo", "q1", "med", "q3", "whishi")
        np.testing.assert_allclose([part[i] for part in parts], [expected[name] for name in names], rtol=1e-6)
        above = expected["fliers"][expected["fliers"] > expected["med"]]
        np.testing.assert_allclose(activation[i, plate.beyond[i]], np.sort(above)[::-1], rtol=1e-6)
    boxes, dots = plate.page().data
    np.testing.assert_allclose(boxes.median, np.median(activation, axis=1), rtol=1e-6)
    assert len(dots.x) == sum(min(len(found), DOTS) for found in plate.beyond)
    assert len(list(plate.rows())) == len(timesteps) + sum(map(len, plate.beyond))


def test_a_spread_without_any_and_one_of_a_single_channel():
    flat = spread(np.ones((2, 8)))
    assert flat.low[0] == flat.high[1] == 1 and [len(found) for found in flat.beyond] == [0, 0]
    one = spread(np.array([[3.0]]))
    assert one.median[0] == one.low[0] == one.high[0] == 3


@pytest.mark.parametrize("model", LAYERS)
def test_rho_and_eta_are_those_of_all_layers(model):
    pairs, timesteps = calibration(model)
    rho = np.array([[spearmanr(row, weight).statistic for row in activation] for activation, weight in pairs.values()])
    plate = paper_figures.plate("rho", False, chosen(model))
    np.testing.assert_allclose(plate.values, rho, atol=1e-6)
    *lines, bold, heat = plate.page().data
    np.testing.assert_allclose(heat.z, rho, atol=1e-6)
    assert list(heat.y) == list(pairs) and bold.name == LAYERS[model]
    np.testing.assert_allclose(bold.y, rho[list(pairs).index(LAYERS[model])], atol=1e-6)
    assert sum(np.isfinite(line.y).sum() for line in lines) == rho.size
    assert {line.name for line in lines} == set(plate.roles)
    eta = paper_figures.plate("eta", False, chosen(model))
    np.testing.assert_allclose(eta.values, softmax(-rho, axis=1), atol=1e-6)
    name, role, t, value, off = next(iter(eta.rows()))
    assert (name, role, t) == (next(iter(pairs)), plate.roles[0], timesteps[0])
    assert off == pytest.approx(100 * (value * len(timesteps) - 1), rel=1e-4)
    assert len(list(eta.rows())) == len(list(plate.rows())) == rho.size


@pytest.fixture(scope="module")
def large():
    """Plates of 112 layers and 3,072 channels."""
    rng = np.random.default_rng(0)
    salience, timesteps = rng.lognormal(size=(25, 3072)), np.arange(960, -40, -40)
    layers = tuple(f"blocks.{i}.{role}" for i in range(28) for role in ("qkv", "proj", "fc1", "fc2"))
    rho = rng.uniform(-1, 1, (112, 25))
    about = {"layers": layers, "roles": tuple(name.split(".")[2] for name in layers), "timesteps": timesteps}
    return [
        SaliencePlate(activation=salience[0], weight=salience[1], log=True),
        BoxesPlate(timesteps=timesteps, salience=salience, **vars(spread(salience))),
        RhoPlate(**about, values=rho, chosen=layers[5]),
        EtaPlate(**about, values=softmax(-rho, axis=1), chosen=layers[5]),
    ]


def test_a_large_model_stays_light_and_legible(large):
    assert all(len(plate.page().to_json()) < 250_000 for plate in large)
    assert [len(plate.page().data) for plate in large] == [2, 2, 6, 5]
    sheet = printed_plates(large, "of what")
    map_ = next(axes for axes in sheet.axes if axes.images)
    assert len(map_.get_yticklabels()) <= READABLE and map_.images[0].get_array().shape == (112, 25)
    fonts = {text.get_fontfamily()[0] for axes in sheet.axes for text in (axes.xaxis.label, *axes.get_xticklabels())}
    assert fonts == {"STIXGeneral"}
    lines = next(axes for axes in sheet.axes if "eta" in axes.get_ylabel())
    np.testing.assert_allclose(lines.lines[0].get_ydata(), large[3].off[0])


def test_numbers_at_peaks_stand_apart():
    values = np.ones(100)
    values[[10, 11, 12, 60, 90]] = 9, 8, 7, 6, 5
    assert most_salient(values) == [10, 60, 90]


def test_files_are_what_they_say_and_name_the_model():
    selection = values(chosen("sd3"))
    opening = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "all": b"%PDF"}
    for label, offer in paper_figures.OFFERS.items():
        making = offer("rho", False, *selection)
        path = next(making)
        kind = offer.__name__.removeprefix("offer_")
        with open(path, "rb") as file:
            content = file.read()
        making.close()
        if kind == "csv":
            comment, heading, *rows = csv.reader(io.StringIO(content.decode()))
            assert "layers of sd3" in ",".join(comment) and heading == ["layer", "role", "timestep", "rho"]
            assert len(rows) == paper_figures.plate("rho", False, chosen("sd3")).values.size
        else:
            assert content.startswith(opening[kind]), label
        assert re.search(rf"sd3-blocks\.0\.context\.qkv-{'all' if kind == 'all' else 'rho'}-x1\.\w+$", path)
        if kind == "png":
            assert Image.open(io.BytesIO(content)).size[0] == 1650


def test_a_pdf_keeps_its_letters():
    plate = SaliencePlate(activation=np.ones(3), weight=np.ones(3))
    assert b"/FontFile2" in plates_file([plate], "pdf", "small")


def test_what_is_shown_is_named_and_what_cannot_be_is_refused():
    figure, told = paper_figures.draw("boxes", True, *values(chosen("dit")))
    assert figure.type == "plotly" and "blocks.1.fc1 of dit" in told
    with pytest.raises(gr.Error, match="figure: expected one of salience, boxes, rho, eta; got 'huh'"):
        paper_figures.draw("huh", False, *values(chosen("dit")))
    with pytest.raises(gr.Error, match=r"got 'blocks\.9\.fc1'"):
        paper_figures.draw("rho", False, *values(chosen("dit", layer="blocks.9.fc1")))
    with pytest.raises(gr.Error, match="There is no calibration of bare yet"):
        paper_figures.draw("rho", False, *values(Selection(model="bare", strength=1)))
