"""No tab has a serious accessibility problem that axe-core knows, in light or dark, and none scrolls sideways.

One page shows them all; what is inside a chart of Plotly is left out, thousands of shapes that axe has no word on.
"""

import pytest
from axe_playwright_python.sync_playwright import Axe

from app.page import TABS
from tests.browser.conftest import look

GRAVE = ("serious", "critical")
OUTSIDE_CHARTS = {"exclude": [[".main-svg > *"]]}
# A chart is drawn once it is near: go where one is not, until there is none.
COME_TO_THE_UNDRAWN = """() => {
  const empty = [...document.querySelectorAll('[aria-label="Empty value"]')].find((one) => one.checkVisibility());
  empty?.scrollIntoView();
  return !empty;
}"""


def ready(page, tab):
    """Wait until the tab shows what it shows."""
    page.locator("html[data-opened]").wait_for(state="attached")
    marks = {
        "start": "#start .wipe-part img.over",
        "learn": "#tabs .lesson .js-plotly-plot",
        "inspect": '.inspector[aria-busy="false"]',
        "compare": "#compare-generate",
        "methods": "#methods .js-plotly-plot >> nth=1",
        "data": "#data .js-plotly-plot",
    }
    page.locator(marks[tab]).first.wait_for()
    page.wait_for_function(COME_TO_THE_UNDRAWN)


def grave(page):
    """What axe-core holds for serious or worse, as text."""
    found = [v for v in Axe().run(page, OUTSIDE_CHARTS).response["violations"] if v["impact"] in GRAVE]
    return [f"{v['id']}: {node['target']} {node['html'][:120]}" for v in found for node in v["nodes"]]


@pytest.mark.parametrize("tab", TABS)
def test_no_tab_has_a_serious_finding(one_page, tab):
    """In both looks of one page: wide and light, then narrow and dark."""
    page = one_page("?tab=start", tab=tab)
    ready(page, tab)
    for width, theme in ((1280, "light"), (375, "dark")):
        look(page, width=width, theme=theme)
        page.wait_for_timeout(500)  # transitions end, colours stand
        assert not grave(page)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
