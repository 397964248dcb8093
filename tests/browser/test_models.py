"""Other models in the real browser: chosen in the bar, every tab walked, nothing of the one before stays."""

import re

import pytest

from app.services import shelf
from tests.app.other_models import write_others
from tests.browser.conftest import at_rest
from tests.load.server import served

TABS = ("Start", "Learn", "Inspect", "Compare", "Methods", "Data & API")
SD3 = "?model=sd3"
DEMO_ONLY = re.compile(r"stacked rings|octahedron|24\.8 dB|OpenVINO \+ NNCF")  # what only the demo's results say


@pytest.fixture(scope="module")
def server(make_dit, tmp_path_factory):
    """The app with a DiT and a Stable Diffusion 3 that have no results but the demo's, and with a bare model."""
    folder = tmp_path_factory.mktemp("models")
    write_others(folder, make_dit(seed=1))
    models = "\n".join(str(folder / name) for name in ("demo", "dit", "sd3", "bare"))
    models = models.replace(str(folder / "demo"), str(shelf.DEMO))
    with served(tmp_path_factory.mktemp("server"), env={"PTQ4DIT_MODEL": models}) as app:
        yield app.url


def choose(page, model):
    """Choose a model in the bar and wait until the page is its own."""
    page.locator("#bar select[data-field=model]").select_option(model)
    page.wait_for_function("model => window.ptq4dit.selection.model === model", arg=model)
    page.wait_for_url(re.compile(f"model={model}"))


def go(page, tab):
    page.get_by_role("tab", name=tab, exact=True).click()


def test_another_model_is_chosen_without_a_restart_and_the_address_says_which(one_page):
    page = one_page(tab="start")
    page.locator("#start .wipe-part img.under").wait_for()
    page.locator("#lacking").wait_for(state="hidden")
    assert page.locator("#bar label:visible").count() == 1  # of the bar only the menu of models is on Start
    choose(page, "dit")
    page.locator("#lacking").wait_for(state="visible")
    page.locator("#start .missing").and_(page.get_by_text("other weights")).wait_for()
    assert page.locator("#start .wipe-part img.under").get_attribute("src") == ""
    assert page.locator("#bar select[data-field=strength]").input_value() == "1"  # as it was trained
    choose(page, "demo")
    page.wait_for_function("document.querySelector('#start .wipe-part img.under').src.startsWith('data:image')")
    assert page.locator("#start .missing").is_hidden()


def test_every_tab_is_the_chosen_models(one_page):
    """All tabs are drawn with the demo first, then with the other models: not a word of the demo's is left."""
    page, one_page.spent = one_page(tab="start"), True  # ends with another model
    for tab in TABS:
        go(page, tab)
        at_rest(page)
    for model in ("sd3", "bare"):
        go(page, "Start")
        choose(page, model)
        no_tab_has_the_demos(page, model)


def no_tab_has_the_demos(page, model):
    """Walk all tabs, wait for what is there of this model, look for what is of the demo."""
    places = ("#start", "#learn-rounding", "#inspector", "#compare-speed", "#methods", "#data-files")
    for tab, place in zip(TABS, places, strict=True):
        go(page, tab)
        page.locator(place).wait_for()
        if tab == "Inspect" and model != "bare":
            page.locator('.inspector[aria-busy="false"]').wait_for()
        at_rest(page)
        shown = page.locator("#tabs [role=tabpanel]:visible").inner_text()
        found = DEMO_ONLY.search(shown.split("Limits of the demo model")[0])
        assert not found, (model, tab, found)
        pictures = page.locator("#tabs [role=tabpanel]:visible img[src^='data:image']")
        assert not any(pictures.nth(i).is_visible() for i in range(pictures.count())), (model, tab)
    status = page.locator("#lacking")
    assert model in status.inner_text() and "python -m ptq4dit prepare" in status.inner_text()


def test_a_text_conditioned_model_is_asked_by_a_prompt(open_page):
    page = open_page("?tab=compare&model=sd3&steps=2&guidance=2")
    prompt = page.locator("#compare-subject textarea")
    prompt.wait_for()
    page.locator("#compare-subject .examples button").nth(2).click()
    wanted = page.locator("#compare-subject .examples button").nth(2).inner_text()
    page.wait_for_function("text => document.querySelector('#compare-subject textarea').value === text", arg=wanted)
    assert page.locator("#bar .class_id").is_hidden() and page.locator("#bar .prompt").is_visible()
    prompt.fill("a red cube")
    prompt.blur()
    page.wait_for_url(re.compile(r"prompt=a\+red\+cube"))
    page.locator("#compare-generate").click()
    page.wait_for_function("document.querySelector('#compare-progress .note').textContent.startsWith('Finished')")
    assert page.locator("#compare-cards .picture img").count() == 3


def test_the_map_has_the_families_rows_and_goes_by_the_keyboard(one_page):
    page = one_page(SD3, tab="inspect")
    page.locator('.inspector[aria-busy="false"]').wait_for()
    rows = page.locator(".map [role=rowheader]").all_inner_texts()
    assert {"qkv", "context.qkv", "context.fc2"} <= set(rows)
    selected = page.locator('.map [aria-selected="true"]')
    selected.focus()
    ends = []
    for key in ("ArrowUp", "ArrowDown"):
        for _ in range(2 * len(rows)):
            page.keyboard.press(key)
        ends.append(selected.get_attribute("data-row"))
    assert sorted(ends, key=int) == ["0", str(len(rows) - 1)]


def test_a_model_without_calibration_opens_and_its_owner_is_offered_to_make_it(open_page):
    page = open_page("?tab=inspect&model=bare")
    page.locator(".inspector .status").and_(page.get_by_text("no calibration")).wait_for()
    assert page.locator(".inspector .card").first.is_hidden()
    page.locator("#lacking .cost").and_(page.get_by_text("here)")).wait_for()
    assert page.get_by_role("button", name="Make it now").is_visible()


@pytest.mark.parametrize(("width", "theme"), [(375, "dark"), (1280, "light")])
def test_nothing_is_wider_than_the_page(one_page, width, theme):
    page = one_page(SD3, tab="start", width=width, theme=theme)
    page.locator("#start .missing").wait_for()
    page.locator("#lacking .told").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
