"""Inspect in a real browser: the map, the switches, the charts and the address move together."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE

expect.set_options(timeout=PATIENCE)


@pytest.fixture
def inspect(open_page):
    """Open Inspect, optionally with more in the address, and wait for its first charts."""

    def open_(query="", **options):
        page = open_page(f"?tab=inspect{query}", **options)
        expect(page.locator(".js-plotly-plot:visible")).to_have_count(6)
        return page

    return open_


def summary(page):
    return page.locator(".reading strong").first


def channel_legend(page):
    return page.locator(".js-plotly-plot").first.locator(".legendtext")


def test_the_tab_opens_with_its_charts_and_a_click_on_the_map_moves_them(open_page):
    page = open_page()
    page.get_by_role("tab", name="Inspect").click()
    expect(summary(page)).to_have_text("blocks.0.fc1")
    expect(page.locator(".js-plotly-plot:visible")).to_have_count(6)
    before = page.locator(".js-plotly-plot").first.inner_html()
    page.get_by_role("gridcell", name="blocks.1.proj").click()
    expect(summary(page)).to_have_text("blocks.1.proj")
    expect(page.get_by_label("Layer", exact=True)).to_have_value("blocks.1.proj")
    expect(page).to_have_url(re.compile(r"layer=blocks\.1\.proj"))
    page.wait_for_function("(old) => document.querySelector('.js-plotly-plot')?.innerHTML !== old", arg=before)
    expect(page.locator('.map-cell[aria-selected="true"]')).to_have_count(1)


def test_arrow_keys_walk_over_the_map(inspect):
    page = inspect()
    page.get_by_role("gridcell", name="blocks.0.fc1").focus()
    page.keyboard.press("ArrowRight")
    expect(summary(page)).to_have_text("blocks.1.fc1")
    page.keyboard.press("ArrowUp")
    expect(summary(page)).to_have_text("blocks.1.proj")
    assert page.evaluate("document.activeElement.dataset.layer") == "blocks.1.proj"


def test_switching_csb_off_takes_ssc_and_the_balanced_traces_along(inspect):
    page = inspect()
    expect(channel_legend(page)).to_have_text(["activation", "balanced", "weight"])
    page.get_by_role("checkbox", name="CSB").uncheck()
    expect(page.get_by_role("checkbox", name="SSC")).to_be_disabled()
    expect(channel_legend(page)).to_have_text(["activation", "weight"])
    expect(page.get_by_text("Nothing is balanced, so no timestep counts.")).to_be_visible()
    expect(page).to_have_url(re.compile("csb=0"))


def test_fc2_says_why_it_is_not_balanced(inspect):
    page = inspect("&layer=blocks.1.fc2")
    expect(summary(page)).to_have_text("blocks.1.fc2")
    expect(page.get_by_text("fc2 is quantized but not balanced").first).to_be_visible()


def test_bits_and_dial_move_the_error(inspect):
    page = inspect()
    expect(page.get_by_text("At W4A8 the layer's output")).to_be_visible()
    page.get_by_label("Weights", exact=True).click()
    page.get_by_role("option", name="8-bit weights").click()
    expect(page.get_by_text("At W8A8 the layer's output")).to_be_visible()
    page.get_by_label("Salience dial").click()
    page.get_by_role("option", name="salience x 8, function unchanged").click()
    expect(page.get_by_text("Salience x 8, function unchanged.")).to_be_visible()


def test_a_link_restores_the_view(inspect):
    page = inspect("&layer=blocks.1.qkv&timestep=0&csb=0&weight_bits=3")
    expect(summary(page)).to_have_text("blocks.1.qkv")
    expect(page.get_by_role("checkbox", name="CSB")).not_to_be_checked()
    expect(page.get_by_label("Weights", exact=True)).to_have_value("3-bit weights")
    expect(page.get_by_text("At W3A8 the layer's output")).to_be_visible()


def test_a_malformed_link_opens_the_default_view_and_says_so(inspect):
    page = inspect("&layer=nowhere")
    expect(page.get_by_text("Part of the link was ignored.")).to_be_visible()
    expect(summary(page)).to_have_text("blocks.0.fc1")


@pytest.mark.parametrize(("button", "ending"), [("Charts' data as CSV", ".csv"), ("Charts as PNG", ".png")])
def test_data_and_picture_can_be_taken_away(inspect, button, ending):
    page = inspect()
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    assert download.value.suggested_filename == f"blocks.0.fc1-w4a8-csb+ssc-x1{ending}"


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_needs_sideways_scrolling(inspect, width, theme):
    page = inspect(width=width, theme=theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [plot.bounding_box() for plot in page.locator(".js-plotly-plot").all()]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
