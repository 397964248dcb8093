"""Start in a real browser: the picture, its switches, and what they move; one page wherever it isn't about opening."""

import re
from dataclasses import replace
from functools import partial

import pytest

from app.services.stored import Choice, load_results
from app.state import Selection
from app.tabs.start_view import NAMES, matching_example
from tests.browser.conftest import at_rest, look

WISH = "?strength=8"  # who wishes for something is not shown the damaged picture first
FULL = Choice(strength=8, csb=True, ssc=True)
FIRST = matching_example(load_results("demo"), Selection(), 0)  # the example that Start opens with
OTHER = FIRST + 1 if FIRST == 0 else 0


@pytest.fixture
def again(one_page):
    """Start on the page that is shared, in a look and with a selection."""
    return partial(one_page, WISH, tab="start")


def source(page):
    return page.locator("#start .wipe-part img.under").get_attribute("src")


def press(page, selector):
    """Press a switch and wait until the picture has changed."""
    before = source(page)
    page.locator(f"#start .switchboard-part {selector}").click()
    page.wait_for_function("before => document.querySelector('#start .wipe-part img.under').src !== before", arg=before)


def shows(page, choice, example=FIRST):
    """Picture, number and bar, which is out of sight here, say what was chosen."""
    number = f"{load_results('demo').picture(example, choice).psnr:.1f} dB"
    page.wait_for_function(
        "n => document.querySelector('#start .verdict-part .number b').textContent === n", arg=number
    )
    name = f"{choice.bits}, {NAMES[choice.variant]}"
    page.wait_for_function("n => document.querySelector('#start .wipe-part .tag.right').innerText === n", arg=name)
    bar = page.locator("#bar").get_by_label("CSB")
    page.wait_for_function("([box, on]) => box.checked === on", arg=[bar.element_handle(), choice.csb])


def test_it_opens_damaged_and_one_button_mends_it(open_page):
    """Opened narrow, and from its damaged picture once more when it is wide."""
    page = open_page(width=375)
    mended_and_back(page)
    look(page, width=1280, theme="light")
    button = page.locator("#start").get_by_role("button", name="Balance the channels")
    assert button.bounding_box()["y"] + button.bounding_box()["height"] < 800
    mended_and_back(page)
    made = page.locator("#start .source")
    assert made.locator("p").is_hidden()
    made.locator("summary").click()
    assert load_results("demo").made["commit"] in made.locator("p").inner_text()
    press(page, "[data-name=csb]")
    assert made.locator("p").is_visible()  # what was opened stays open


def mended_and_back(page):
    """From the damaged picture to the mended one and back again."""
    index, damaged = load_results("demo").telling
    shows(page, damaged, example=index)
    word = page.locator("#start .verdict-part .number strong")
    assert word.inner_text() == "broken"
    assert page.locator("#bar").is_hidden()
    page.wait_for_url(re.compile("(?=.*csb=0)(?=.*weight_bits=8)"))
    page.locator("#start").get_by_role("button", name="Balance the channels").click()
    shows(page, replace(damaged, csb=True, ssc=True), example=index)
    assert word.inner_text() == "hard to tell"
    page.locator("#start").get_by_role("button", name="See it unbalanced again").click()
    shows(page, damaged, example=index)


@pytest.mark.parametrize(("width", "theme"), [(375, "dark"), (1280, "light")])
def test_it_opens_with_both_pictures(again, width, theme):
    page = again(width=width, theme=theme)
    page.wait_for_selector("#start .wipe-part img.under")
    shows(page, FULL)
    widths = page.eval_on_selector_all("#start .wipe-part img", "images => images.map(image => image.naturalWidth)")
    assert min(widths) >= 64
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width


def test_the_switches_change_picture_number_and_bar(again):
    page = again()
    press(page, "[data-name=csb]")
    shows(page, Choice(strength=8))
    assert page.locator("#start .switchboard-part [data-name=ssc]").is_disabled()
    press(page, "[data-name=csb]")
    shows(page, FULL)  # SSC comes back with CSB, as it was
    press(page, "[data-name=ssc]")
    press(page, "[data-name=csb]")
    press(page, "[data-name=csb]")
    shows(page, Choice(strength=8, csb=True))  # and stays off where it was off
    press(page, "[data-name=bits][data-value=W8A8]")
    shows(page, Choice(bits="W8A8", strength=8, csb=True))
    press(page, "[data-name=strength][data-value='1']")
    shows(page, Choice(bits="W8A8", csb=True))
    page.wait_for_url(re.compile("(?=.*weight_bits=8)(?=.*ssc=0)(?=.*strength=1)"))


def test_of_choices_that_follow_each_other_quickly_the_last_one_stands(again):
    """The page's echo of an earlier one comes when a later one has been made, and changes nothing."""
    page = again()
    page.evaluate("""() => {
      for (let i = 0; i < 31; i += 1) {
        ptq4dit.set({ timestep: 10 + i });
        document.querySelector('#copy-link').click();  // tells the page at once
      }
    }""")
    at_rest(page)
    assert page.evaluate("ptq4dit.selection.timestep") == 40
    page.wait_for_url(re.compile("timestep=40"))


def test_the_curve_says_where_one_is_and_whether_balancing_pays_there(again):
    """At four bits, as trained, CSB loses on average: by sign, shape and words."""
    page = again(width=375, theme="dark")
    curve = page.get_by_role("group", name="Mean PSNR over the salience dial at W4A8")
    here, said = curve.locator("[aria-pressed=true]"), page.locator("#start .dial .said")
    shows(page, FULL)
    assert here.get_attribute("data-value") == "8/csb+ssc" and "closer to" in said.inner_text()
    curve.get_by_role("button", name="CSB, as trained").click()
    shows(page, Choice(csb=True))
    assert here.get_attribute("data-value") == "1/csb" and "loses" in here.get_attribute("class")
    assert "further from" in said.inner_text() and curve.get_by_text("you are here").is_visible()
    assert page.locator("#start .verdict tr.chosen.loses").is_visible()
    page.keyboard.press("Tab")  # the next point is CSB + SSC, as trained
    page.keyboard.press("Enter")
    shows(page, Choice(csb=True, ssc=True))
    page.wait_for_url(re.compile("strength=1"))
    press(page, "[data-name=bits][data-value=W8A8]")
    page.get_by_role("group", name="Mean PSNR over the salience dial at W8A8").wait_for()
    assert "gains" in page.locator("#start .dial [aria-pressed=true]").get_attribute("class")


def test_a_switch_flips_the_picture_without_the_server(again):
    page = again()
    shows(page, FULL)
    changed = page.evaluate("""async () => {
      const picture = () => document.querySelector('#start .wipe-part img.under').src, before = picture();
      document.querySelector('#start [data-name=csb]').click();
      for (let frame = 0; frame < 2; frame += 1) await new Promise((go) => requestAnimationFrame(go));
      return picture() !== before;
    }""")
    assert changed


def test_a_switch_asks_the_server_for_nothing(open_page):
    """Views on other tabs are drawn when somebody sees them, not before."""
    page = open_page(WISH)
    page.locator("html[data-opened]").wait_for(state="attached")
    at_rest(page)
    asked = []
    page.on("request", lambda request: asked.append(request.url) if re.search("/(run|queue)/", request.url) else None)
    press(page, "[data-name=csb]")
    press(page, "[data-name=bits][data-value=W8A8]")
    page.wait_for_url(re.compile("(?=.*csb=0)(?=.*weight_bits=8)"))  # the whole page has heard of it
    at_rest(page)
    assert not asked
    page.get_by_role("tab", name="Methods").click()
    page.locator("#methods-reading").get_by_text("At W8A8, salience x 8").wait_for()


def test_the_bar_moves_start(again):
    """It is not on Start, but what is chosen in it elsewhere is chosen here."""
    page = again()
    shows(page, FULL)
    page.get_by_role("tab", name="Inspect").click()
    page.locator("#bar").get_by_label("CSB").click()
    page.get_by_role("tab", name="Start").click()
    page.locator("#bar").wait_for(state="hidden")
    shows(page, Choice(strength=8))


def test_what_is_not_stored_is_said(again):
    page = again(weight_bits=3, seed=99)
    remark = page.locator("#start .verdict-part .remark")
    remark.wait_for()
    assert re.match(r"W3A8, salience x 8, .* from seed 99 is not stored, so this shows W4A8", remark.inner_text())
    page.locator("#start .filmstrip-part button").nth(OTHER).click()
    page.locator("#start .switchboard-part [data-value=W4A8]").click()
    remark.wait_for(state="detached")


def test_a_link_opens_what_it_names(open_page):
    example = load_results("demo").examples[2]
    page = open_page(f"?csb=0&strength=1&class_id={example.class_id}&seed={example.seed}")
    shows(page, Choice(), example=2)


def test_the_divider_follows_pointer_and_keyboard_and_stays(again):
    page = again()
    slider = page.locator("#start .wipe-part input[type=range]")

    def place():
        box, line = (page.locator(f"#start .wipe-part {part}").bounding_box() for part in (".stage", ".line"))
        return (line["x"] + line["width"] / 2 - box["x"]) / box["width"]

    box = slider.bounding_box()
    page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + 0.5 * box["height"])
    assert place() == pytest.approx(0.2, abs=0.02)
    press(page, "[data-name=csb]")
    assert place() == pytest.approx(0.2, abs=0.02)
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert place() == pytest.approx(0.25, abs=0.02)


def test_an_example_brings_its_own_picture(again):
    page = again()
    before = source(page)
    page.locator("#start .filmstrip-part button").nth(OTHER).click()
    page.wait_for_function("before => document.querySelector('#start .wipe-part img.under').src !== before", arg=before)
    shows(page, FULL, example=OTHER)
    assert (
        page.locator("#start .filmstrip-part [aria-pressed=true]").inner_text()
        == load_results("demo").examples[OTHER].class_name
    )


def test_the_picture_goes_along_to_compare(again):
    page = again(width=375)
    page.locator("#start .filmstrip-part button").nth(OTHER).click()
    page.locator("#start .filmstrip-part button").nth(OTHER).and_(page.locator("[aria-pressed=true]")).wait_for()
    page.get_by_role("button", name="Generate it live").click()
    page.locator("#compare-generate").wait_for()
    assert re.search(r"tab=compare", page.url)
    chosen = page.locator("#compare").get_by_role("combobox", name="Class").input_value()
    assert chosen == load_results("demo").examples[OTHER].class_name
