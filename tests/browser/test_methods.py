"""Methods and Data & API in a real browser: stored results followed and exported, a pair run, the keyboard."""

import csv
from functools import partial

import pytest


@pytest.fixture
def again(one_page):
    """The page that is shared, on Methods or another tab, in a look and with a selection."""
    return partial(one_page, "?tab=methods")


@pytest.mark.parametrize(("width", "theme"), [(375, "dark"), (1280, "light")])
def test_stored_results_follow_the_metric_and_the_bar(again, width, theme):
    page = again(tab="methods", width=width, theme=theme)
    rows = page.locator("#methods-table tbody tr")
    rows.first.wait_for()
    assert "simulated" in page.locator("#methods-table thead").inner_text()
    page.locator("#methods .js-plotly-plot").nth(1).wait_for()
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert "W8A8" not in page.locator("#methods-table thead").inner_text()
    page.locator("#bar").get_by_label("Weights").select_option("8")
    page.wait_for_function("document.querySelector('#methods-table thead').textContent.includes('W8A8')")
    page.locator("#methods-table .scroll").focus()
    assert page.evaluate("document.activeElement.getAttribute('role')") == "region"


def test_a_pair_is_run_from_the_same_noise(again):
    page = again(tab="methods", steps=2)
    page.locator("#methods-table tbody tr").first.wait_for()
    page.locator("#methods-run").click()
    page.wait_for_function("document.querySelector('#methods-progress .note').textContent.startsWith('Finished')")
    assert page.locator("#methods-cards .cards figure").count() == 3
    assert page.locator("#methods-numbers tbody tr").count() == 2
    page.locator("#methods-cancel").and_(page.locator(":disabled")).wait_for()
    assert page.locator("#methods-live .old").count() == 0
    page.locator("#bar").get_by_label("Weights").select_option("8")
    page.locator("#methods-progress .changed").wait_for()


def test_a_chart_is_taken_away_as_csv_and_svg(again):
    page = again(tab="data")
    page.locator("#data .js-plotly-plot").wait_for()
    for kind, opening in (("csv", "# Methods against full precision"), ("svg", "<?xml")):
        with page.expect_download() as download:
            page.locator(f"#data-{kind}").click()
        assert download.value.suggested_filename == f"methods-ranking.{kind}"
        text = download.value.path().read_text(encoding="utf-8")
        assert opening in text[:200]
        if kind == "csv":
            assert len(list(csv.reader(text.splitlines()))) > 3
    files = page.locator("#data-files tbody tr")
    assert files.count() >= 5 and "python assets/recipes/results.py" in files.first.inner_text()


def test_the_game_is_played_with_the_keyboard(again):
    page = again(tab="methods")
    page.locator("#game-part button").first.wait_for()
    assert page.locator("#game-next").is_disabled()
    for number in range(1, 11):
        page.get_by_text(f"Round {number} of 10").wait_for()
        assert page.locator("#game-part img").count() == 3
        page.locator("#game-part button").first.focus()
        page.keyboard.press("Enter")
        page.get_by_text(f"of {number} right").wait_for()
        assert (
            page.locator("#game-part button.closer").count() == page.locator("#game-part button.further").count() == 1
        )
        page.locator("#game-next:enabled").click()
    page.get_by_text("No answer yet").wait_for()
    assert page.locator("#game-part button:enabled").count() == 2


def test_every_column_about_the_files_is_in_sight(again):
    """The commands are long; they wrap instead of pushing date and machine out of the window."""
    page = again(tab="data")
    table = page.locator("#data-files .scroll")
    table.locator("td").first.wait_for()
    assert table.evaluate("box => box.scrollWidth <= box.clientWidth")
