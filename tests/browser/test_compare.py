"""Compare in a real browser: a run from button to download, cancelled, lined up otherwise, refused."""

import csv
import io
import json
import re
import zipfile

import pytest

from tests.browser.conftest import look

NOTE = "(document.querySelector('#compare-progress .note')?.textContent ?? '')"


@pytest.fixture
def again(one_page):
    """Compare on the page that is shared, with a selection of two steps, once it has made its first comparison."""

    def brought(**selection):
        page = one_page("?tab=compare&steps=2", tab="compare", **selection)
        page.wait_for_function(f"{NOTE}.startsWith('Finished') || {NOTE}.startsWith('Cancelled')")
        return page

    return brought


def generate(page, until="Finished"):
    """Press Generate and wait until the progress line of the run that it starts begins with `until`."""
    count_starts(page)
    page.locator("#compare-generate").click()
    page.wait_for_function("window.starts > 0")
    said(page, until)


def count_starts(page):
    """From now on `window.starts` counts what the progress line says of a run that begins or goes on."""
    page.locator("#compare-progress .note").wait_for(state="attached")
    page.evaluate("""() => {
      window.starts = 0;
      window.watching?.disconnect();
      const line = document.querySelector('#compare-progress');
      const look = () => { window.starts += /^(Starting|Preparing|Step)/.test(line.querySelector('.note').innerText); };
      window.watching = new MutationObserver(look);
      window.watching.observe(line, { subtree: true, childList: true, characterData: true });
    }""")


def said(page, note):
    page.wait_for_function(f"n => {NOTE}.startsWith(n)", arg=note)


def titles(page):
    return page.locator("#compare-cards figcaption strong").all_inner_texts()


def test_a_run_ends_with_pictures_numbers_and_files(open_page):
    """Narrow and light, then wide and dark, and there with another seed."""
    page = open_page("?tab=compare&steps=2&seed=2", width=375, theme="light")
    page.locator("#compare-drift .js-plotly-plot").wait_for()  # its frame is there before anything is drawn in it
    said(page, "Finished")  # the first comparison is made by itself
    is_whole(page, 375)
    fits_a_phone(page)
    look(page, width=1280, theme="dark")
    generate(page)
    archive = is_whole(page, 1280)
    # Another seed: what is there is out of date and says so, until its own pictures and its own file are there.
    assert settings(archive)["seed"] == 2 and not outdated(page)
    page.locator("#compare").get_by_label("Seed", exact=True).fill("3")
    page.locator("#compare").get_by_label("Seed", exact=True).press("Tab")
    page.locator("#compare-progress .changed").wait_for()
    assert outdated(page) == 3
    page.locator("#compare-generate").click()
    page.locator("#compare-cards figcaption.about").get_by_text("seed 3").wait_for()
    said(page, "Finished")
    assert not outdated(page) and settings(downloaded(page))["seed"] == 3


def is_whole(page, width):
    """Look at all that a run leaves, and give its file."""
    assert titles(page) == ["FP32", "W8A8", "W4A8"]
    cards = page.locator("#compare-cards .cards figure")
    assert "seed 2" in page.locator("#compare-cards figcaption.about").inner_text()
    assert cards.locator(".picture img").count() == 3
    assert cards.locator("img.difference").count() == 2
    assert "integer, CSB+SSC" in cards.nth(2).inner_text()
    assert page.locator("#compare-wipe img.over").get_attribute("src").startswith("data:image")
    assert page.locator("#compare-numbers tbody tr").count() == 3
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    archive = downloaded(page)
    rows = list(csv.reader(io.StringIO(archive.read("numbers.csv").decode())))
    assert {"FP32.png", "W8A8-csb-ssc.png", "W4A8-csb-ssc.png", "settings.json"} <= set(archive.namelist())
    shown = [cards.nth(index).locator(".score b").first.inner_text() for index in (1, 2)]
    assert shown == [f"{float(row[2]):.1f}" for row in rows[2:]]
    return archive


def fits_a_phone(page):
    """Cards are swiped, the table of numbers is one of lines."""
    cards = page.locator("#compare-cards .cards")
    assert cards.evaluate("row => row.scrollWidth > row.clientWidth && getComputedStyle(row).scrollSnapType !== ''")
    assert cards.locator("figure").first.bounding_box()["width"] > 200
    table = page.locator("#compare-numbers .scroll")
    assert table.evaluate("box => box.scrollWidth <= box.clientWidth")
    assert table.locator("td").first.evaluate("cell => getComputedStyle(cell, '::before').content") == '"PSNR, dB"'


def downloaded(page):
    """What the one button for it gives."""
    button = page.locator("#compare").get_by_text("Download", exact=False).filter(visible=True)
    assert button.count() == 1
    with page.expect_download() as download:
        button.click()
    return zipfile.ZipFile(download.value.path())


def settings(archive):
    return json.loads(archive.read("settings.json"))


def outdated(page):
    """How many of progress, cards and slider are dimmed as of something else."""
    return page.locator(":is(#compare-progress, #compare-cards, #compare-wipe) .old").count()


def test_generate_can_be_pressed_again_at_once(again):
    page = again(seed=1)
    generate(page)
    count_starts(page)
    page.evaluate("document.querySelector('#compare-generate').click()")
    page.wait_for_function("window.starts > 0")
    said(page, "Finished")


def test_what_somebody_has_drawn_is_there_when_the_tab_opens(open_page):
    """The server keeps it for all."""
    page = open_page("?tab=compare&steps=2&seed=5")
    said(page, "Finished")
    page = open_page("?tab=compare&steps=2&seed=5")
    count_starts(page)
    said(page, "Finished")
    assert page.evaluate("window.starts") == 0 and titles(page) == ["FP32", "W8A8", "W4A8"]
    assert settings(downloaded(page))["seed"] == 5


@pytest.mark.alone
def test_cancel_stops_the_run_and_keeps_what_there_is(open_page):
    page = open_page("?tab=compare&steps=250")
    said(page, "Step")
    page.locator("#compare-cards .picture img").first.wait_for()
    page.locator("#compare-cancel").dispatch_event("click")  # the page is busy with what it draws
    said(page, "Cancelled at step")
    assert page.locator("#compare-cards .picture img").count() == 3
    page.locator("#compare-cancel").and_(page.locator(":disabled")).wait_for()


def test_gain_changes_the_maps_and_not_the_pictures(again):
    page = again()
    generate(page)
    picture = page.locator("#compare-cards .picture img").nth(2).get_attribute("src")
    before = page.locator("#compare-cards img.difference").nth(1).get_attribute("src")
    gain = page.locator("#compare-gain input[type=number]")
    gain.fill("64")
    gain.press("Enter")
    page.wait_for_function("b => document.querySelectorAll('#compare-cards img.difference')[1].src !== b", arg=before)
    assert page.locator("#compare-cards .picture img").nth(2).get_attribute("src") == picture


def test_nothing_to_compare_is_explained(again, one_page):
    one_page.refused = True
    page = again()
    page.locator("#compare-bits input").click()
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    page.keyboard.press("Escape")
    page.locator("#compare-generate").click()
    page.get_by_text("expected at least one variant such as W4A8").first.wait_for()
    for way, one in (("balancing", "W4A8 csb+ssc"), ("bit-widths", "W8A8")):  # lined up anew there are some again
        page.locator("#compare-line-up").get_by_label(way, exact=True).check()
        page.locator("#compare-bits").get_by_text(one, exact=True).wait_for()


def test_balancing_is_compared_at_the_bits_of_the_bar(again, one_page):
    page, one_page.spent = again(weight_bits=3, strength=1), True  # is reloaded and stays as it is then
    page.locator("#compare-line-up").get_by_label("balancing").check()
    page.locator("#compare-bits").get_by_text("W3A8 csb+ssc").wait_for()
    page.get_by_text("Steps, guidance, sampler").click()
    page.locator("#compare-backend").get_by_label("simulated").check()
    page.wait_for_url(re.compile("(?=.*line_up=balancing)(?=.*variants=W3A8)(?=.*backend=simulated)"))
    page.reload()  # the link brings all of it back
    page.locator("#compare-bits").get_by_text("W3A8 csb+ssc").wait_for()
    said(page, "Finished")
    assert page.locator("#compare-line-up").get_by_label("balancing").is_checked()
    assert page.locator("#compare-bits").get_by_text("W3A8 csb").count() == 2
    generate(page)
    assert titles(page) == ["FP32", "W3A8", "W3A8", "W3A8"]
    details = page.locator("#compare-cards figcaption span").all_inner_texts()
    assert details[1:] == ["simulated, no balancing", "simulated, CSB", "simulated, CSB+SSC"]
    page.locator("#bar").get_by_label("CSB").click()  # every variant says for itself how it is balanced
    page.wait_for_url(re.compile("csb=0"))
    assert not outdated(page)
    page.get_by_role("tab", name="Methods").click()
    page.wait_for_url(re.compile("tab=methods"))
    page.go_back()
    page.locator("#compare-generate").wait_for()
    page.wait_for_url(re.compile("(?=.*tab=compare)(?=.*csb=0)(?=.*line_up=balancing)"))
    assert "tab=compare" in page.url
