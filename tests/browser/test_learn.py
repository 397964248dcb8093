"""Learn in a real browser: every lesson draws, answers to its control, and its question can be put and revealed.

Eight charts are drawn, each once it comes near what the window shows. All tests but two share two pages, a wide light
one and a narrow dark one: each begins by choosing what it speaks of.
"""

import re

import pytest
from playwright.sync_api import expect

from app.content.lessons import LESSONS
from tests.browser.conftest import PATIENCE, at_rest, opening

expect.set_options(timeout=PATIENCE)

KEYS = [one.key for one in LESSONS]


@pytest.fixture(scope="module")
def wide(browser, server):
    with opening(browser, server) as open_:
        yield opened(open_, width=1280, theme="light")


@pytest.fixture(scope="module")
def narrow(browser, server):
    with opening(browser, server) as open_:
        yield opened(open_, width=375, theme="dark")


def opened(open_, query="?tab=learn", **look):
    page = open_(query, **look)
    page.locator("#tabs .lesson .reading").first.wait_for()
    return page


def lesson(page, key):
    """A lesson, once the reader has come to it and it is drawn."""
    one = page.locator(f"#learn-{key}")
    one.scroll_into_view_if_needed()
    one.locator(".main-svg, .wipe img.over").first.wait_for()
    return one


def reading(page, key):
    return page.locator(f"#learn-{key} .prose.reading")


def changes(page, key, act):
    """Do something that must change a lesson's reading; the new reading."""
    lesson(page, key)
    at_rest(page)
    before = reading(page, key).inner_text()
    act()
    page.wait_for_function(
        "([id, before]) => document.querySelector(`#${id} .prose.reading`).innerText !== before",
        arg=[f"learn-{key}", before],
    )
    return reading(page, key).inner_text()


def set_slider(page, place, value):
    box = page.locator(f"#learn-{place} input[type=number]").first
    box.fill(str(value))
    box.press("Enter")


@pytest.mark.parametrize("look", ["wide", "narrow"])
def test_every_lesson_is_drawn_and_fits(request, look):
    page = request.getfixturevalue(look)
    width = page.viewport_size["width"]
    for key in KEYS:
        lesson(page, key)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".lesson .formula .katex").count() == 9
    assert page.locator(".katex-error").count() == 0
    assert "$" not in page.locator("#tabs").inner_text()
    charts = page.locator(".lesson .js-plotly-plot").all()
    assert len(charts) == 8
    for chart in charts:
        box = chart.bounding_box()
        assert 200 < box["width"] <= width and box["x"] + box["width"] <= width
    for formula in page.locator(".lesson .formula .katex-display").all():
        assert formula.evaluate("(element) => element.scrollWidth <= element.clientWidth + 1")


def test_on_a_phone_the_chart_follows_its_control(narrow):
    for key in KEYS:
        tops = [
            narrow.locator(f"#learn-{key} {part}").first.bounding_box()["y"]
            for part in (".lesson-words", "input", ":is(.chart, .wipe)", ".reading", ".formula", ".question")
        ]
        assert tops == sorted(tops)


def test_each_control_moves_its_lesson(wide):
    page = wide
    assert "8 bits" in changes(page, "rounding", lambda: set_slider(page, "rounding", 8))
    assert "beyond the grid" in changes(page, "rounding", lambda: set_slider(page, "scale", 0.5))
    changes(page, "rounding", lambda: set_slider(page, "zero", -3))
    assert "outlier of 20" in changes(page, "outlier", lambda: set_slider(page, "outlier", 20))
    assert "Balanced" in changes(page, "balance", lambda: set_slider(page, "balance", 100))
    assert "At timestep" in changes(page, "timesteps", lambda: set_slider(page, "timesteps", 10))
    for key, choice, said in (
        ("scales", "groups of both", "minima and maxima"),
        ("rotation", "as it is", "as it is"),
        ("branch", "64", "rank 64"),
    ):
        radio = page.locator(f"#learn-{key} .lesson-body").get_by_label(choice, exact=True)
        assert said in changes(page, key, radio.check)


def test_the_salience_dial_is_followed(wide):
    page = wide
    dial = page.locator("#bar").get_by_label("Salience dial")
    assert "function unchanged" in changes(page, "salience", lambda: dial.select_option("4"))


def test_the_outlier_can_be_dragged_and_walked(wide):
    page = wide
    handle = page.locator("#learn-outlier .handle")

    def drag():
        handle.scroll_into_view_if_needed()
        box = handle.locator("circle").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 120, y, steps=6)
        page.mouse.up()

    changes(page, "outlier", drag)
    size = float(handle.get_attribute("aria-valuenow"))
    assert size > 8
    expect(page.locator("#learn-outlier input[type=number]")).to_have_value(f"{size:g}")
    handle.focus()
    assert "outlier of 30" in changes(page, "outlier", lambda: page.keyboard.press("End"))


def test_the_pictures_and_the_switches_are_one(wide):
    page = wide
    changes(page, "pictures", lambda: page.locator("#learn-pictures").get_by_label("no balancing", exact=True).check())
    expect(page.locator("#bar").get_by_label("CSB")).not_to_be_checked()
    expect(page.locator("#learn-wipe .tag.right")).to_contain_text("no balancing")
    changes(page, "pictures", lambda: page.locator("#bar").get_by_label("CSB").check())
    expect(page.locator("#learn-pictures").get_by_label("CSB + SSC", exact=True)).to_be_checked()


def test_a_layer_chosen_here_is_chosen_everywhere_and_the_other_way_round(wide):
    page = wide
    bar = page.locator("#bar")

    def choose():
        page.locator("#learn-salience input[role=combobox]").click()
        page.get_by_role("option", name="blocks.1.proj").click()

    assert "blocks.1.proj" in changes(page, "salience", choose)
    expect(bar.get_by_label("Layer")).to_have_value("blocks.1.proj")
    said = changes(page, "salience", lambda: bar.get_by_label("Layer").select_option("blocks.2.qkv"))
    assert "blocks.2.qkv" in said
    assert page.locator("#learn-salience input[role=combobox]").input_value() == "blocks.2.qkv"

    def pin():
        bar.get_by_label("Channel").fill("21")
        bar.get_by_label("Channel").press("Enter")

    assert "channel 21" in changes(page, "balance", pin)
    page.get_by_role("tab", name="Inspect").click()
    expect(page.locator('[data-reading="summary"]')).to_contain_text("blocks.2.qkv")
    expect(page.locator('[data-reading="channels"]')).to_contain_text("Channel 21")
    page.get_by_role("tab", name="Learn").click()


def test_predict_then_reveal(narrow):
    page = narrow
    for key in KEYS:
        lesson = page.locator(f"#learn-{key}")
        lesson.locator(".question").get_by_role("radio").first.check()
        lesson.get_by_role("button", name="Reveal").click()
        lesson.locator(".prose.answer").filter(has_text=re.compile("Right|Not quite")).wait_for()


def test_predictions_are_ticked_counted_and_kept(open_page):
    page = opened(open_page)
    score = page.locator("#learn-finish .score")
    expect(score).to_contain_text("Nothing predicted yet")

    def predict(key, answer):
        lesson = page.locator(f"#learn-{key}")
        lesson.locator(".question").get_by_role("radio").nth(answer).check()
        lesson.get_by_role("button", name="Reveal").click()
        lesson.locator(".answer .mark").wait_for()

    predict("rounding", 1)
    expect(score).to_have_text("You predicted 1 of 1 right; 8 questions are open.")
    predict("outlier", 0)
    expect(score).to_have_text("You predicted 1 of 2 right; 7 questions are open.")
    predict("outlier", 2)  # the first answer counts
    expect(page.locator("#learn-outlier .answer .mark.right")).to_be_visible()
    expect(score).to_have_text("You predicted 1 of 2 right; 7 questions are open.")
    marks = [page.locator(f'nav.lessons a[data-lesson="{key}"]') for key in ("rounding", "outlier", "salience")]
    assert [mark.get_attribute("data-mark") for mark in marks] == ["right", "wrong", ""]
    assert "".join(marks[1].inner_text().split("\n")) == "Outliers, predicted otherwise"
    page.reload()
    expect(score).to_have_text("You predicted 1 of 2 right; 7 questions are open.")
    page.get_by_role("button", name="Forget my answers").click()
    expect(score).to_contain_text("Nothing predicted yet")


def test_the_drawn_block_and_the_story_follow_the_selection(wide):
    page = wide
    block, story = page.locator("#learn-block"), page.locator("#learn-story")
    page.locator("#bar").get_by_label("Layer").select_option("blocks.2.fc1")
    expect(block.locator('[data-role="fc1"]')).to_have_attribute("aria-pressed", "true")
    expect(story.locator(".which")).to_contain_text("of blocks.2.fc1")
    block.locator('[data-role="proj"]').focus()
    page.keyboard.press("Enter")
    expect(page.locator("#bar").get_by_label("Layer")).to_have_value("blocks.2.proj")
    expect(story.locator(".which")).to_contain_text("of blocks.2.proj")
    told = []
    for step in range(6):
        expect(story.locator(f'[data-step="{step}"]')).to_have_attribute("aria-pressed", "true")
        assert story.locator(".stage > *").count() >= 1
        told.append(story.locator(".text").inner_text())
        story.locator(".next").click()
    assert len(set(told)) == 6 and "to_v" not in told[0]
    expect(story.locator('[data-step="0"]')).to_have_attribute("aria-pressed", "true")


def test_a_layer_that_a_reading_names_is_one_press_away(wide):
    page = wide
    page.locator("#bar").get_by_label("Salience dial").select_option("1")
    page.locator("#bar").get_by_label("Layer").select_option("blocks.4.fc1")
    at_rest(page)
    link = page.locator('#learn-timesteps .reading a[href^="#layer="]')
    name = link.inner_text()
    link.click()
    expect(page.locator("#bar").get_by_label("Layer")).to_have_value(name)


def test_links_lead_to_the_lessons_and_back_to_the_pictures(open_page):
    page = opened(open_page, "?tab=learn#learn-balance")
    in_view = "(id) => Math.abs(document.getElementById(id).getBoundingClientRect().top) < 400"
    page.wait_for_function(in_view, arg="learn-balance")
    page.locator("nav.lessons a", has_text="Timesteps").click()
    page.wait_for_function(in_view, arg="learn-timesteps")
    assert page.url.endswith("?tab=learn#learn-timesteps")
    page.get_by_role("button", name="Draw from a noise of your own").click()
    page.locator('[role=tab][aria-selected=true]:has-text("Compare")').wait_for()
