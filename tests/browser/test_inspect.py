"""Inspect in a real browser: every view follows the one selection, and each of them can move it.

What is not about opening is tested on one page, whose Inspect was opened from another tab.
"""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE, at_rest, look

expect.set_options(timeout=PATIENCE)
SELECTION = "window.ptq4dit.selection"


@pytest.fixture
def inspect(open_page):
    """Open Inspect, optionally with more in the address, and wait until all is drawn."""

    def open_(query="", **options):
        page = open_page(f"?tab=inspect{query}", **options)
        expect(page.locator(".inspector")).to_have_attribute("aria-busy", "false")
        return page

    return open_


@pytest.fixture
def again(one_page):
    """Inspect on the page that is shared, with more of the selection, once all is drawn."""

    def again_(**selection):
        page = one_page("?strength=8", tab="inspect", **selection)
        expect(page.locator(".inspector")).to_have_attribute("aria-busy", "false")
        return page

    return again_


def reading(page, name):
    return page.locator(f'[data-reading="{name}"]')


def chart(page, name):
    return page.locator(f'[data-chart="{name}"]')


def in_bar(page, label):
    return page.locator("#bar").get_by_label(label, exact=True).filter(visible=True)


def selected(page, **fields):
    """The selection and the address hold these values."""
    for name, value in fields.items():
        page.wait_for_function(f"([name, value]) => {SELECTION}[name] === value", arg=[name, value])
        if value != -1:
            text = str(int(value) if isinstance(value, bool) else value)
            expect(page).to_have_url(re.compile(rf"{name}={re.escape(text)}(&|$)"))


def click_at(page, name, across, down):
    """Click a chart at a share of its width and height."""
    chart(page, name).scroll_into_view_if_needed()
    box = chart(page, name).bounding_box()
    page.mouse.click(box["x"] + across * box["width"], box["y"] + down * box["height"])


def test_everything_is_drawn_and_fits(inspect):
    page = inspect("&channel=5", width=375, theme="dark")
    all_is_drawn(page, 375)
    the_bar_of_a_phone(page)
    look(page, width=1280, theme="light")
    page.evaluate("window.scrollTo(0, 0)")
    at_rest(page)
    all_is_drawn(page, 1280)


def all_is_drawn(page, width):
    expect(page.locator(".inspector")).to_have_attribute("aria-busy", "false")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("channels", "time", "pairs", "errors"):
        box = chart(page, name).locator("svg").first.bounding_box()
        assert box["width"] > 200 and box["x"] >= 0 and box["x"] + box["width"] <= width
    assert page.locator(".variant").count() == 3
    assert (
        chart(page, "time").locator(".colours").count() == 1
    )  # what the colours stand for, and which channel a row is
    rows = [int(text) for text in chart(page, "time").locator(".beside").all_text_contents()]
    assert len(rows) >= 3 and rows == sorted(rows)
    texts = page.locator(".inspector").inner_text()
    assert "NaN" not in texts and "undefined" not in texts and "Infinity" not in texts
    expect(page.get_by_role("button", name="Copy link")).to_be_in_viewport()
    page.mouse.wheel(0, 1500)
    page.wait_for_function("window.scrollY > 500")
    expect(page.locator("#bar")).to_be_in_viewport()


def the_bar_of_a_phone(page):
    """How is rounded is in sight; the rest is behind a button that the keyboard opens and shuts."""
    width, bar = page.viewport_size["width"], page.locator("#bar")
    for label in ("Weights", "Activations", "CSB", "SSC", "Per token"):
        box = in_bar(page, label).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width, label
        expect(in_bar(page, label)).to_be_in_viewport(ratio=1)
    assert bar.locator("form").evaluate("(form) => form.scrollWidth <= form.clientWidth")
    more, layer = bar.get_by_role("button", name="More"), bar.get_by_label("Layer")
    expect(layer).to_be_hidden()
    more.focus()
    page.keyboard.press("Enter")
    expect(layer).to_be_in_viewport(ratio=1)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.field") == "model"
    layer.select_option("blocks.0.fc1")
    selected(page, layer="blocks.0.fc1")
    expect(more).to_contain_text("blocks.0.fc1")
    layer.press("Escape")
    expect(layer).to_be_hidden()
    expect(more).to_be_focused()


def test_a_layer_chosen_on_the_map_moves_everything(again):
    page = again()
    expect(reading(page, "summary")).to_contain_text("blocks.2.fc1")
    before = chart(page, "channels").inner_html()
    page.get_by_role("gridcell", name="blocks.2.proj").click()
    expect(reading(page, "summary")).to_contain_text("blocks.2.proj")
    expect(in_bar(page, "Layer")).to_have_value("blocks.2.proj")
    selected(page, layer="blocks.2.proj")
    assert chart(page, "channels").inner_html() != before
    page.keyboard.press("ArrowRight")
    selected(page, layer="blocks.3.proj")
    page.keyboard.press("ArrowDown")
    selected(page, layer="blocks.3.fc1")
    assert page.evaluate("document.activeElement.dataset.layer") == "blocks.3.fc1"


def test_a_channel_is_pinned_in_any_chart_and_marked_in_all(again):
    page = again()
    expect(reading(page, "channels")).to_contain_text("Most salient activation")
    click_at(page, "channels", 0.5, 0.3)
    page.wait_for_function(f"{SELECTION}.channel >= 0")
    channel = page.evaluate(f"{SELECTION}.channel")
    selected(page, channel=channel)
    expect(in_bar(page, "Channel")).to_have_value(str(channel))
    expect(reading(page, "channels")).to_contain_text(f"Channel {channel}")
    for name in ("channels", "errors", "time", "pairs"):
        expect(chart(page, name).locator(".pinned")).to_contain_text(str(channel))
    click_at(page, "errors", 0.8, 0.4)
    page.wait_for_function(f"before => {SELECTION}.channel > before", arg=channel)
    click_at(page, "time", 0.3, 0.1)
    page.wait_for_function(f"before => {SELECTION}.channel < before", arg=channel)
    assert page.evaluate(f"{SELECTION}.timestep") > 500
    in_bar(page, "Channel").fill("")
    in_bar(page, "Channel").press("Enter")
    selected(page, channel=-1)
    first = chart(page, "pairs").locator("path").first.get_attribute("d")
    x, y = (float(number) for number in re.match(r"M([0-9.]+) ([0-9.]+)", first).groups())
    chart(page, "pairs").click(position={"x": x, "y": y})
    page.wait_for_function(f"{SELECTION}.channel >= 0")


def test_the_keyboard_walks_over_channels_and_timesteps(again):
    page = again(channel=10)
    chart(page, "channels").focus()
    page.keyboard.press("ArrowRight")
    selected(page, channel=11)
    page.keyboard.press("Escape")
    selected(page, channel=-1)
    chart(page, "time").focus()
    before = page.evaluate(f"{SELECTION}.timestep")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"before => {SELECTION}.timestep < before", arg=before)
    page.keyboard.press("Home")
    page.keyboard.press("End")
    page.wait_for_function(f"{SELECTION}.timestep === 0")
    assert "timestep 0" in chart(page, "time").get_attribute("aria-valuetext")


def test_play_runs_through_the_timesteps_and_stops(again):
    page = again(timestep=120)
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(f"{SELECTION}.timestep === 0")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    expect(page.locator(".player output")).to_have_text("t = 0")
    selected(page, timestep=0)
    page.locator("[data-scrub]").fill("0")
    page.wait_for_function(f"{SELECTION}.timestep > 900")


def test_the_switches_and_the_three_cards_are_one(again):
    page = again()
    expect(page.locator('.variant[aria-pressed="true"]')).to_have_attribute("data-variant", "csb+ssc")
    in_bar(page, "CSB").uncheck()
    expect(in_bar(page, "SSC")).to_be_disabled()
    expect(page.locator('.variant[aria-pressed="true"]')).to_have_attribute("data-variant", "none")
    expect(reading(page, "time")).to_contain_text("Nothing is balanced")
    selected(page, csb=False)
    page.locator('[data-variant="csb"]').click()
    selected(page, ssc=False)
    assert page.evaluate(f"{SELECTION}.csb")
    expect(in_bar(page, "CSB")).to_be_checked()
    in_bar(page, "Salience dial").select_option("1")  # as trained, at four bits, balancing costs more than it brings
    expect(page.locator(".variant.loses").first).to_contain_text("more error than without balancing")
    cards = [(card, float(card.locator("strong").inner_text().split()[0])) for card in page.locator(".variant").all()]
    plain = cards[0][1]
    for card, error in cards[1:]:
        said = "less error" if error < plain else "more error"
        assert said in card.inner_text() and said in card.get_attribute("aria-label")


def test_bits_and_dial_move_the_error(again):
    page = again()
    expect(reading(page, "effect")).to_contain_text("At W4A8")
    in_bar(page, "Weights").select_option("8")
    expect(reading(page, "effect")).to_contain_text("At W8A8")
    in_bar(page, "Salience dial").select_option("8")
    expect(reading(page, "summary")).to_contain_text("Salience x 8, function unchanged")
    in_bar(page, "Layer").select_option("blocks.1.fc2")
    expect(reading(page, "channels")).to_contain_text("fc2 is quantized but not balanced")
    expect(page.locator(".variant")).to_have_count(1)


def test_the_histogram_of_one_channel_is_there_on_demand(again):
    page = again(channel=7)
    page.locator(".single summary").click()
    expect(page.locator('[data-chart="single"] svg')).to_have_count(2)
    expect(page.locator('[data-chart="single"]')).to_contain_text("channel 7")
    in_bar(page, "Channel").fill("9")
    in_bar(page, "Channel").press("Enter")
    expect(page.locator('[data-chart="single"]')).to_contain_text("channel 9")


def test_the_table_of_layers_sorts_and_chooses(again):
    page = again()
    page.locator('[data-table="layers"] summary').click()
    page.locator('[data-table="layers"] [data-sort="4"]').click()
    page.wait_for_function(
        "!document.querySelector('[data-table=\"layers\"] td:nth-child(5)').textContent.includes('-')"
    )
    errors = [float(text) for text in page.locator('[data-table="layers"] td:nth-child(5)').all_inner_texts()]
    assert len(errors) % 4 == 0 and errors == sorted(errors, reverse=True)
    name = page.locator('[data-table="layers"] tbody tr:not(.chosen) button').last.inner_text()
    page.locator(f'[data-table="layers"] [data-layer="{name}"]').click()
    expect(page.locator('[data-table="layers"] tr.chosen button')).to_have_text(name)
    selected(page, layer=name)


def test_a_link_restores_the_view(inspect):
    page = inspect("&__sign=x&layer=blocks.1.qkv&timestep=0&channel=3&csb=0&weight_bits=3&seed=9&class_id=1")
    expect(reading(page, "summary")).to_contain_text("blocks.1.qkv")
    expect(in_bar(page, "CSB")).not_to_be_checked()
    for label, value in (("Weights", "3"), ("Channel", "3"), ("Seed", "9"), ("Class", "1"), ("Timestep", "0")):
        expect(in_bar(page, label)).to_have_value(value)
    expect(reading(page, "effect")).to_contain_text("At W3A8")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "layer=blocks.1.qkv" in copied and "seed=9" in copied and "__sign" not in copied
    assert "__sign=x" in page.url  # of which the frame that a host shows the page in has need
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#compare").get_by_label("Seed", exact=True)).to_have_value("9")


def test_a_malformed_link_opens_the_default_view_and_says_so(inspect):
    page = inspect("&layer=nowhere&channel=many")
    expect(page.get_by_text("Part of the link was ignored.").first).to_be_visible()
    expect(reading(page, "summary")).to_contain_text("blocks.2.fc1")
    selected(page, channel=-1)


def test_data_and_pictures_can_be_taken_away(again):
    page = again()
    for button, ending in (("Charts' data as CSV", ".csv"), ("Charts as PNG", ".png"), ("Charts as SVG", ".svg")):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        assert download.value.suggested_filename == f"demo-blocks.2.fc1-w4a8-csb+ssc-x8{ending}"


def test_sort_top_scale_and_stage_change_the_chart_and_stay_in_the_link(again, one_page):
    page, one_page.spent = again(), True  # is reloaded and stays as it is then
    expect(page.get_by_label("coloured by").locator("option:checked")).to_contain_text(
        "over all timesteps, max / median"
    )
    expect(reading(page, "channels")).to_contain_text("At timestep")  # the map tells of all timesteps, the text of one
    for name, value in (("sort", "activation"), ("top", "16"), ("scale", "log"), ("stage", "after"), ("span", "all")):
        before = chart(page, "channels").inner_html()
        page.locator(f'[data-look="{name}"]').select_option(value)
        assert chart(page, "channels").inner_html() != before, name
        expect(page).to_have_url(re.compile(f"{name}={value}"))
    expect(reading(page, "channels")).to_contain_text("Over all timesteps")
    page.locator('[data-table="channels"] summary').click()
    rows = page.locator('[data-table="channels"] tbody tr')
    expect(rows).to_have_count(16)
    salience = [float(text) for text in page.locator('[data-table="channels"] td:nth-child(2)').all_inner_texts()]
    assert salience == sorted(salience, reverse=True)
    page.reload()
    expect(page.locator('[data-look="sort"]')).to_have_value("activation")
    expect(page.locator('[data-look="top"]')).to_have_value("16")
