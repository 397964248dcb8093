"""The page as a whole: what it offers, what it hides, and that it opens where a link points."""

import re
import subprocess
import sys
from types import SimpleNamespace

import gradio as gr
import pytest

from app.components import bar
from app.components.bar import ROUNDING, bar_fields, grouped_fields, write_address
from app.components.controls import open_link
from app.page import TABS, build, open_tab
from app.services import loading, models
from app.services.fitting import fit
from app.services.models import Outline
from app.state import FIELDS, Selection
from app.theme import look, theme

LOOK_UPS = {"models", "layers", "layer_salience", "layer_correlation", "layer_error", "channel"}


@pytest.fixture(scope="module")
def page():
    return build()


def test_only_typed_endpoints_are_public(page):
    public = {fn.api_name for fn in page.fns.values() if fn.api_visibility == "public" and fn.fn is not None}
    assert LOOK_UPS | {"generate", "compare"} <= public
    assert not {name for name in public if "lambda" in name or name.startswith(("draw", "on_"))}
    assert public <= LOOK_UPS | {"generate", "compare", "chart_data"}, public


def test_every_control_that_handlers_read_is_on_the_page(page):
    rendered = set(page.blocks)
    for fn in page.fns.values():
        assert all(block._id in rendered for block in [*fn.inputs, *fn.outputs]), fn.name


def test_tabs_stand_in_order(page):
    ids = [block.id for block in page.blocks.values() if isinstance(block, gr.Tab) and block.id in TABS]
    assert ids == list(TABS) == ["start", "learn", "inspect", "compare", "methods", "data"]


def test_nothing_is_fetched_from_outside(page):
    css = theme()._get_theme_css() + look()["css_paths"].read_text()
    assert not re.search(r"@import|url\([\"']?(https?:)?//", css)
    assert theme()._stylesheets == []
    assert look()["css_paths"].is_file()


def request(**query):
    return SimpleNamespace(query_params=query)


def test_a_link_sets_every_control():
    *values, notice = open_link(request(model="demo", layer="blocks.1.proj", seed="7", csb="0"))
    assert notice == ""
    moved = {name: value for name, value in zip(FIELDS, values, strict=True) if value != gr.skip()}
    assert moved == {"layer": "blocks.1.proj", "seed": 7, "csb": False, "ssc": False}


def test_a_link_leaves_alone_what_stands_as_it_asks():
    """A visitor may press a switch before the link's answer comes."""
    assert open_link(request()) == open_link(request(seed="0", csb="1")) == [*[gr.skip()] * len(FIELDS), ""]


def test_what_a_link_asks_for_in_vain_is_told_and_cannot_be_markup():
    *values, notice = open_link(request(layer="<img src=x>", timestep="many", model="other", csb="0"))
    assert values[FIELDS.index("layer")] == gr.skip() and values[FIELDS.index("csb")] is False
    assert notice.count("Part of the link was ignored") == 3
    assert "&lt;img" in notice and "<img" not in notice


def test_a_link_to_what_the_model_lacks_opens_what_it_has_and_says_so():
    outline = Outline(name="tiny", layers=("blocks.0.qkv", "blocks.1.fc2"), labels=("sphere", "cube"))
    asked = Selection(layer="blocks.7.fc1", class_id=5, seed=9)
    selection, unknown = fit(asked, outline)
    assert selection == Selection(model="tiny", layer="blocks.0.qkv", class_id=0, seed=9, strength=1)
    assert "got 'demo'" in unknown["model"]
    assert "blocks.7.fc1" in unknown["layer"] and "expected 0 to 1; got 5" in unknown["class_id"]
    assert fit(selection, outline) == (selection, {})


def test_a_link_opens_its_tab():
    assert open_tab(request(tab="inspect")).selected == "inspect"
    assert open_tab(request(tab="nowhere")) == open_tab(request()) == gr.skip()


def test_the_bar_holds_the_selection_but_for_what_other_places_hold():
    fields = bar_fields(["tiny", "demo"])
    assert {field["name"] for field in fields} - {"classes"} == set(FIELDS) - {"steps", "guidance", "reference"}
    assert [option["value"] for option in fields[0]["options"]] == ["tiny", "demo"]
    rounding, rest = grouped_fields(fields)
    assert [field["name"] for field in rounding["fields"]] == list(ROUNDING)
    assert len(rounding["fields"]) + len(rest["fields"]) == len(fields)


@pytest.mark.usefixtures("explored_once")
def test_the_bar_is_told_what_a_model_can_show():
    about = bar.model("tiny")
    assert about["layers"][1][0] == "block 1" and about["layers"][1][1][-1] == ["1 fc2", "blocks.1.fc2"]
    assert about["labels"][1] == "cube" and not about["prompted"]
    assert about["opens"] == {"layer": "blocks.0.qkv", "channel": -1, "class_id": 0, "prompt": "", "strength": 1}
    assert bar.model("demo")["opens"]["strength"] == 8
    for wrong in ("../demo", None, 7, ["tiny"]):
        assert bar.model(wrong)["problem"].startswith("model: expected one of tiny, demo; got")


def test_the_address_knows_every_field():
    assert all(f'"{name}"' in write_address() for name in FIELDS)


def test_outline_needs_no_torch(model_folder, monkeypatch):
    code = "import sys\nfrom app.services.models import outline\nabout = outline('tiny')\n"
    code += "print(about.layers[-1], *about.labels)\nassert not {'torch', 'diffusers', 'gradio'} & set(sys.modules)"
    monkeypatch.setenv("PTQ4DIT_MODEL", str(model_folder))
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["blocks.1.fc2", "sphere", "cube", "cone", "torus", "cross"]


def test_a_missing_model_is_told_with_its_mend(tmp_path, monkeypatch):
    monkeypatch.setenv("PTQ4DIT_MODEL", str(tmp_path))
    with pytest.raises(loading.ModelMissing, match=r"model_index\.json") as told:
        models.explored(tmp_path.name)
    assert str(tmp_path) not in str(told.value)
