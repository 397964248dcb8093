"""Compare two in a real browser: a view is pinned, charts overlay it and name both, the link carries it; and code."""

import json
import re
import subprocess
import sys

import pytest
from playwright.sync_api import expect

from app.state import Selection, refer
from tests.browser.conftest import PATIENCE, look

expect.set_options(timeout=PATIENCE)
PINNED = Selection(layer="blocks.2.fc1", timestep=500, ssc=False)


@pytest.fixture
def again(one_page):
    """Inspect on the page that is shared, with more of the selection, once all is drawn."""

    def again_(**selection):
        return drawn(one_page("?tab=inspect", tab="inspect", **selection))

    return again_


def drawn(page):
    expect(page.locator(".inspector")).to_have_attribute("aria-busy", "false")
    return page


def quiet(page, name):
    """The reference's lines in a chart."""
    return page.locator(f'[data-chart="{name}"] svg .quiet')


def words(page):
    return page.locator('[data-reading="reference"]')


def test_one_view_is_pinned_and_every_chart_overlays_it(again):
    page = again(ssc=False)
    assert not page.locator(".quiet").count()
    page.get_by_role("button", name="Pin as reference").click()
    expect(page).to_have_url(re.compile("reference=demo%7Eblocks.2.fc1%7E500%7E4%7E8%7E1%7E0%7E8"))
    page.get_by_role("gridcell", name="blocks.5.qkv").click()
    both = page.locator(".both")
    expect(both).to_contain_text("on show: demo, blocks.5.qkv, timestep 500, W4A8, CSB, salience x 8")
    expect(both).to_contain_text("reference: demo, blocks.2.fc1, timestep 500, W4A8, CSB, salience x 8")
    for name, lines in (("channels", 2), ("time", 4), ("pairs", 1), ("errors", 1)):
        expect(quiet(page, name)).to_have_count(lines)
    for legend in page.locator(".channels .key, .pairs .key, .time > .key, .effect .key").all():
        expect(legend).to_contain_text("reference: blocks.2.fc1")
    expect(page.locator(".variant .referred")).to_have_count(3)
    expect(words(page)).to_contain_text("the same number in another layer is another channel")
    page.get_by_role("gridcell", name="blocks.5.fc2").click()
    expect(words(page)).to_contain_text("reads 192 input channels and this layer 768")
    expect(quiet(page, "channels")).to_have_count(0)
    expect(quiet(page, "pairs")).to_have_count(1)
    page.get_by_role("button", name="Swap").click()
    page.wait_for_function("window.ptq4dit.selection.layer === 'blocks.2.fc1'")
    expect(both).to_contain_text("reference: demo, blocks.5.fc2")
    page.get_by_role("button", name="Unpin").click()
    expect(page.locator(".quiet")).to_have_count(0)
    expect(page).not_to_have_url(re.compile("reference="))


def test_a_link_restores_the_reference(open_page):
    page = open_page(f"?tab=inspect&layer=blocks.0.qkv&timestep=20&reference={refer(PINNED)}", width=375)
    for width in (375, 1280):
        look(page, width=width, theme="light")
        drawn(page)
        expect(page.locator(".both")).to_contain_text(
            "reference: demo, blocks.2.fc1, timestep 500, W4A8, CSB, salience x 8"
        )
        expect(quiet(page, "channels")).to_have_count(2)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_what_no_view_can_be_is_told(open_page):
    lost = refer(PINNED).replace("blocks.2.fc1", "blocks.77.fc1")
    page = drawn(open_page(f"?tab=inspect&reference={lost}"))
    expect(words(page)).to_contain_text("The reference cannot be shown. layer: expected one of blocks.0.qkv")
    page.get_by_role("button", name="Unpin").click()
    expect(words(page)).to_contain_text("Pin what is on show")


def test_code_is_copied_with_selection_and_address(again, server):
    page = again(layer="blocks.1.fc1", channel=7, strength=4, csb=False)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server)
    page.get_by_role("button", name="Copy as code").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    program = page.evaluate("navigator.clipboard.readText()")
    assert f'Client("{server}/")' in program and '"csb": False' in program
    asked = program.split("print(channel[")[0] + "import json\nprint(json.dumps(channel))"
    ran = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=300)
    answer = json.loads(ran.stdout.splitlines()[-1])
    assert (answer["layer"], answer["channel"], answer["strength"]) == ("blocks.1.fc1", 7, 4), ran.stderr
    told = page.locator('[data-reading="channels"]').inner_text()
    assert f"activation {answer['activation']:.3g} (rank {answer['activation_rank']})" in told
    page.get_by_role("tab", name="Data & API").click()
    expect(page.locator("#data-client code")).to_contain_text(f'Client("{server}/")')
