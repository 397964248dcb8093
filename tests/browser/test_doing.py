"""One channel's doing in a real browser: from a click to pictures, a curve, a link; what hurts, on the map."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE

expect.set_options(timeout=3 * PATIENCE)


@pytest.fixture
def again(one_page):
    """Inspect on the page that is shared, with more of the selection, once all is drawn."""

    def again_(**selection):
        return drawn(one_page("?tab=inspect", tab="inspect", **selection))

    return again_


def drawn(page):
    page.set_default_timeout(3 * PATIENCE)
    expect(page.locator(".inspector")).to_have_attribute("aria-busy", "false")
    return page


def finished(page):
    """Everything that was asked for is drawn."""
    expect(page.locator("#doing .progress")).to_have_attribute("aria-valuetext", "Finished")


def test_from_a_click_to_the_pixel(again):
    page = again(weight_bits=8)
    page.locator("#doing").scroll_into_view_if_needed()
    expect(page.locator("#doing .body")).to_be_hidden()
    chart = page.locator('[data-chart="channels"]')
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.click(box["x"] + 0.4 * box["width"], box["y"] + 0.4 * box["height"])
    expect(page).to_have_url(re.compile(r"channel=\d+"))
    expect(page.locator("#doing .who")).to_contain_text("of blocks.2.fc1")
    page.locator("#doing").scroll_into_view_if_needed()
    expect(page.locator("#doing .rows figure")).to_have_count(3)
    expect(page.locator("#doing .shown figure")).to_have_count(0)  # nothing is drawn before somebody asks
    chart.focus()
    page.keyboard.press("Enter")  # leads from the chart to the button
    expect(page.get_by_role("button", name="Draw the pictures")).to_be_focused()
    page.keyboard.press("Enter")
    finished(page)
    expect(page.locator("#doing .shown figure")).to_have_count(4)
    expect(page.locator("#doing .shown .difference")).to_have_count(3)
    expect(page.locator('[data-reading="verdict"]')).to_contain_text("dB")
    page.get_by_role("button", name="Take it out").click()  # from here on it follows by itself
    expect(page.locator('#doing [data-card="scaled"]')).to_contain_text("taken out")
    finished(page)
    expect(page).to_have_url(re.compile(r"doing=1.*gain=0|gain=0.*doing=1"))
    before = page.locator('[data-card="spared"]').inner_text()
    chart.focus()
    page.keyboard.press("ArrowRight")
    page.locator("#doing").scroll_into_view_if_needed()
    expect(page.locator('[data-card="spared"]')).not_to_have_text(before)
    page.keyboard.press("Escape")
    expect(page.locator("#doing .drawings")).to_be_hidden()
    expect(page.locator("#doing .invite")).to_be_visible()


PRESS_CANCEL = """() => {
  const stop = document.querySelector('#doing [data-do="stop"]');
  if (!stop || stop.disabled) return false;
  stop.click();
  return true;
}"""


def test_a_link_brings_the_curve_and_it_can_be_cancelled(open_page):
    query = "?tab=inspect&channel=129&weight_bits=8&doing=1&curve=all"
    page = open_page(query, width=375, theme="dark")
    page.wait_for_function(PRESS_CANCEL)  # as soon as there is something to cancel: on a fast machine it is soon over
    expect(page.locator("#doing .note")).to_contain_text("Cancelled after")
    stop = page.get_by_role("button", name="Cancel", exact=True).filter(visible=True)
    expect(stop).to_be_disabled()
    page.locator("[data-curve]").select_option("layer")  # every layer's takes longer
    page.get_by_role("button", name="Draw the pictures").click()
    finished(page)
    slider = page.locator("[data-kept]")
    first = page.locator("#doing .many img").get_attribute("src")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#doing .many figcaption")).to_contain_text("1 channel in float")
    assert page.locator("#doing .many img").get_attribute("src") != first
    expect(page.locator('[data-reading="curve"]')).to_contain_text("mean of 4 pictures")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    texts = page.locator("#doing").inner_text()
    assert "NaN" not in texts and "undefined" not in texts and "Infinity" not in texts


def test_what_hurts_the_picture_colours_the_map_and_sorts_the_table(again):
    page = again()
    page.get_by_label("coloured by").select_option("hurts")
    expect(page.locator('[data-reading="hurts"]')).to_contain_text("hurts most")
    worst = page.locator('[data-reading="hurts"] b').first.inner_text()
    label = page.locator(f'.map [data-layer="{worst}"]').get_attribute("aria-label")
    assert re.search(r"what hurts the picture, %: [\d.]+", label)
    page.get_by_text("All layers as a table").click()
    expect(page.locator('[data-table="layers"] tbody tr').first).to_contain_text(worst)
    page.locator("#bar").get_by_label("Salience dial").filter(visible=True).select_option("2")
    expect(page.locator('[data-reading="hurts"]')).to_contain_text("has not been measured of demo at salience x 2")
