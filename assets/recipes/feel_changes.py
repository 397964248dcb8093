"""How long each change takes in a real browser, from the click to the last new frame; used by feel.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from playwright.sync_api import Page

LAYERS = [f"blocks.{block}.{role}" for block in range(8) for role in ("qkv", "proj", "fc1", "fc2")]
Change = tuple[str, str]  # what to do, and what is true once it is done, both in JavaScript
# Done once nothing on the page has moved for a second: what is drawn out of sight is drawn then.
SETTLED = """() => new Promise((done) => {
  let last = performance.now();
  const seen = new MutationObserver(() => { last = performance.now(); });
  seen.observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
  const wait = setInterval(() => {
    if (performance.now() - last < 1000) return;
    clearInterval(wait); seen.disconnect(); done();
  }, 50);
})"""
# Milliseconds until the frame after the last change of the page at `target`; nothing moves for 120 ms after that.
CLOCK = """async ([act, target, done]) => {
  const rest = (ms) => new Promise((go) => setTimeout(go, ms));
  let last = 0;
  const stamp = () => requestAnimationFrame(() => setTimeout(() => { last = performance.now(); }, 0));
  const seen = new MutationObserver(stamp);
  const all = { subtree: true, childList: true, attributes: true, characterData: true };
  seen.observe(document.querySelector(target), all);
  const begin = performance.now();
  eval(act);
  while (!last || performance.now() - last < 120 || !eval(done)) {
    await rest(5);
    if (performance.now() - begin > 10000) throw new Error(`${act}: not done in 10 s`);
  }
  seen.disconnect();
  return last - begin;
}"""


def choose(**fields: object) -> str:
    """The script that changes the page's selection, as the bar does."""
    written = ", ".join(
        f"{name}: {str(value).lower() if isinstance(value, bool) else repr(value)}" for name, value in fields.items()
    )
    return f"ptq4dit.set({{{written}}})"


def says(name: str, text: str) -> str:
    return f"document.querySelector('[data-reading={name}]').textContent.includes('{text}')"


def layer(name: str) -> Change:
    return f"document.querySelector('.map [data-layer=\"{name}\"]').click()", says("summary", name)


def scrub(step: int) -> Change:
    moved = "s.dispatchEvent(new Event('input', {bubbles: true}))"
    move = f"const s = document.querySelector('[data-scrub]'); s.value = {step}; {moved}"
    return move, f"document.querySelector('[data-scrub]').value === '{step}'"


def bits(weight: int, activation: int) -> Change:
    return choose(weight_bits=weight, activation_bits=activation), says("effect", f"At W{weight}A{activation}")


def slide(lesson: str, value: float, text: str) -> Change:
    """A lesson's slider moved; its reading has the text."""
    moved = "s.dispatchEvent(new Event('input', {bubbles: true})); s.dispatchEvent(new Event('pointerup'))"
    move = f"const s = document.querySelector('#learn-{lesson} input[type=range]'); s.value = {value}; {moved}"
    return move, f"document.querySelector('#learn-{lesson} .prose.reading').textContent.includes('{text}')"


def on_inspect(page: Page, url: str) -> dict[str, list[float]]:
    """Every kind of change on Inspect."""
    open_tab(page, url, "inspect", '.inspector[aria-busy="false"]')
    timed = clock(page, "#inspector")
    others = [one for one in LAYERS if one != "blocks.2.fc1"]
    found = {"Inspect: layer, first time": timed(map(layer, others))}
    found["Inspect: layer, again"] = timed(map(layer, LAYERS))
    page.evaluate(choose(layer="blocks.2.fc1"))
    found["Inspect: timestep"] = timed(scrub(step) for step in [*range(1, 25), *range(24)])
    found["Inspect: channel"] = timed((choose(channel=n), says("channels", f"Channel {n}:")) for n in range(40))
    pressed = "document.querySelector('.variant[aria-pressed=true]').dataset.variant"
    switched = [("none", (False, False)), ("csb", (True, False)), ("csb+ssc", (True, True))] * 13
    found["Inspect: CSB and SSC"] = timed(
        (choose(csb=csb, ssc=ssc), f"{pressed} === '{name}'") for name, (csb, ssc) in switched
    )
    every = [(w, a) for w in (2, 3, 4, 5, 6, 7, 8) for a in (3, 5, 6, 7, 8)]
    found["Inspect: bits, first time"] = timed(bits(*one) for one in every)
    found["Inspect: bits, again"] = timed(bits(*one) for one in every)
    page.evaluate(choose(weight_bits=4, activation_bits=8))
    for turn in ("first time", "again"):
        found[f"Inspect: salience dial, {turn}"] = [wait for name in LAYERS[::3] for wait in turned(page, timed, name)]
    return found


def on_compared(page: Page, url: str) -> dict[str, list[float]]:
    """Changes of Inspect over a pinned reference, and of the paper's figures."""
    pinned = "demo~blocks.2.fc1~20~4~8~0~0~8~0"
    open_tab(page, url, f"inspect&reference={pinned}", ".inspector [data-chart=channels] .quiet")
    timed = clock(page, "#inspector")
    found = {"Inspect: layer, over a reference": timed(map(layer, LAYERS[1:]))}
    found["Inspect: timestep, over a reference"] = timed(scrub(step) for step in [*range(1, 25), *range(24)])
    pressed = "document.querySelector('[data-do={}]').click()", "document.querySelector('.both').textContent"
    turns = [("unpin", f"!{pressed[1]}"), ("pin", pressed[1])] * 10
    found["Inspect: pin and unpin"] = timed((pressed[0].format(act), done) for act, done in turns)
    page.evaluate("document.querySelector('#paper-figures button').click()")
    page.wait_for_selector("#paper-figures .main-svg", timeout=60_000)
    told = "document.querySelector('#paper-told').textContent.includes('{}')"
    press = "document.querySelector('#paper-figure input[value={}]').click()"
    words = {"boxes": "quartiles", "rho": "Spearman", "eta": "What each", "salience": "before balancing"}
    paper = clock(page, "#paper-figures")
    found["Inspect: the paper's figures"] = paper((press.format(key), told.format(words[key])) for key in [*words] * 6)
    found["Inspect: layer, the paper's figures"] = paper((choose(layer=n), told.format(f"of {n} of")) for n in LAYERS)
    return found


def turned(page: Page, timed: Callable[[Iterable[Change]], list[float]], name: str) -> list[float]:
    """Every strength of the salience dial on one layer, which is chosen without being timed."""
    page.evaluate(choose(layer=name))
    said = {n: says("summary", f"Salience x {n}") for n in (2, 4, 16, 8)}
    said[1] = f"!({says('summary', 'Salience x')})"
    return timed((choose(strength=n), said[n]) for n in (2, 4, 16, 1, 8))


def on_start(page: Page, url: str) -> dict[str, list[float]]:
    """Switches and examples on Start."""
    open_tab(page, url, "start", "#start img.under")
    timed, tag = clock(page, "#start"), "document.querySelector('#start .tag.right').textContent"
    press = "document.querySelector('#start [data-name={}]').click()"
    found = {
        "Start: CSB": timed((press.format("csb"), f"{tag}.includes('CSB') === {on}") for on in ["false", "true"] * 20)
    }
    found["Start: bits"] = timed(
        (f"document.querySelector('#start [data-value={name}]').click()", f"{tag}.includes('{name}')")
        for name in ["W8A8", "W4A8"] * 20
    )
    chosen = "document.querySelectorAll('#start [data-index]')[{0}].ariaPressed === 'true'"
    found["Start: example"] = timed(
        (f"document.querySelectorAll('#start [data-index]')[{i}].click()", chosen.format(i))
        for i in [0, 1, 2, 3, 4, 5] * 5
    )
    return found


def on_learn(page: Page, url: str) -> dict[str, list[float]]:
    """Each lesson's control."""
    open_tab(page, url, "learn", "#learn-timesteps .main-svg")
    found = {}
    found["Learn: bits"] = clock(page, "#learn-rounding")(
        slide("rounding", n, f"With {n} bits") for n in [3, 5, 6, 7, 8, 4] * 5
    )
    found["Learn: outlier"] = clock(page, "#learn-outlier")(
        slide("outlier", n, f"outlier of {n}") for n in range(2, 30)
    )
    by_bar = [
        (choose(layer=name), f"document.querySelector('#learn-salience .prose.reading').textContent.includes('{name}')")
        for name in LAYERS
    ]
    found["Learn: layer"] = clock(page, "#learn-salience")(by_bar)
    found["Learn: balance"] = clock(page, "#learn-balance")(
        slide("balance", n, f"{n}% of the way") for n in [*range(5, 100, 5), *range(90, 0, -5)]
    )
    times = [940, 860, 700, 620, 540, 460, 380, 300, 220, 140]
    found["Learn: timestep"] = clock(page, "#learn-timesteps")(slide("timesteps", n, "At timestep") for n in times * 3)
    said = "document.querySelector('#learn-rotation .prose.reading').textContent.includes('{}')"
    pick = "document.querySelectorAll('#learn-rotation .lesson-body input[type=radio]')[{}].click()"
    found["Learn: rotation"] = clock(page, "#learn-rotation")(
        (pick.format(i), said.format(text)) for i, text in [(0, "as it is"), (1, "rotated,"), (2, "balanced by")] * 10
    )
    tag = "document.querySelector('#learn-wipe .tag.right').textContent"
    found["Learn: CSB"] = clock(page, "#learn-pictures")(
        (choose(csb=on), f"{tag}.includes('CSB') === {str(on).lower()}") for on in (False, True) * 15
    )
    return found


def on_methods(page: Page, url: str) -> dict[str, list[float]]:
    """The setting that Methods shows."""
    open_tab(page, url, "methods", "#methods .main-svg")
    setting = "document.querySelector('#methods-setting input').value.includes('W{}A8')"
    return {"Methods: bits": clock(page, "#methods")((choose(weight_bits=n), setting.format(n)) for n in (8, 4) * 10)}


def clock(page: Page, target: str) -> Callable[[Iterable[Change]], list[float]]:
    """Times changes, one after the other, from a page at rest."""

    def timed(changes: Iterable[Change]) -> list[float]:
        page.locator(target).scroll_into_view_if_needed()
        page.evaluate(SETTLED)
        return [page.evaluate(CLOCK, [act, target, done]) for act, done in changes]

    return timed


def open_tab(page: Page, url: str, tab: str, mark: str) -> None:
    page.goto(f"{url}/?tab={tab}")
    page.wait_for_selector("html[data-opened]", state="attached", timeout=60_000)
    page.wait_for_selector(mark, state="attached", timeout=60_000)


TABS = (on_start, on_inspect, on_compared, on_learn, on_methods)
