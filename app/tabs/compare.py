"""Compare: full precision and quantized variants from the same noise, generated live, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.context import Context
from gradio.events import Dependency

from app.components.chart import chart
from app.components.controls import Shared
from app.components.follower import follow
from app.components.own import tell
from app.components.part import html_part
from app.content import words
from app.services.fitting import fit
from app.services.generation import Frame
from app.services.request import DEFAULT_BITS, MOST_VARIANTS, SAMPLERS, Request, selected_variants
from app.state import LONGEST_PROMPT, Selection
from app.tabs import compare_api
from app.tabs import compare_handlers as handlers
from app.tabs import compare_line_up as line_up
from app.tabs import compare_view as view
from app.tabs.inspect_files import download

AT_ONCE: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "generation"}  # further runs queue
BITS = ("W8A8", "W6A8", "W5A8", "W4A8", "W3A8", "W2A8", "W8A6", "W6A6", "W4A6", "W8A4", "W4A4")
SAMPLER_NAMES = [("DDIM", "ddim"), ("DDPM", "ddpm"), ("DPM-Solver++", "dpm++")]
LINE_UPS = list(zip(("bit-widths", "balancing", "both, in two rows", "scales"), line_up.LINE_UPS, strict=True))
LINED_UP = "compare-lined-up"  # said to the whole page once the controls stand as link and bar say
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", **PRIVATE}
RUN_BY = list(zip(("integers where they can be", "rounded floats (simulated)"), line_up.RUN_BY, strict=True))
LINK = {
    "line_up": "bits",
    "variants": ",".join(DEFAULT_BITS),
    "sampler": SAMPLERS[0],
    "backend": "auto",
}  # what a link need not say


@dataclass(frozen=True, kw_only=True)
class _Controls:
    """What only this tab asks."""

    line_up: gr.Radio
    backend: gr.Radio
    bits: gr.Dropdown
    sampler: gr.Dropdown
    generate: gr.Button
    cancel: gr.Button


@dataclass(frozen=True, kw_only=True)
class _Views:
    """What a run fills, in the order of `compare_handlers.Update`."""

    progress: gr.HTML
    cards: gr.HTML
    details: gr.Column
    table: gr.HTML
    chart: gr.Plot
    download: gr.Button
    cancel: gr.Button
    against: gr.Dropdown
    wipe: gr.HTML
    finished: gr.State


def create_compare_tab(shared: Shared) -> None:
    """Build the tab: what to generate on one side, pictures and numbers on the other."""
    gr.Markdown(words("compare"))
    with gr.Row(elem_id="compare"):
        with gr.Column(scale=3, min_width=280, elem_classes="card") as asked:
            controls = _create_controls(shared)
        with gr.Column(scale=8, min_width=300):
            gain, views = _create_views(shared, controls.cancel)
    with gr.Column(elem_classes="card", elem_id="compare-speed"):
        gr.Markdown(
            "### Speed and memory of this model\nMeasured beforehand: each version by itself, one after the other."
        )
        outputs = [html_part("table", handlers.NOTHING_MEASURED), gr.Markdown(elem_classes="source")]
        follow(shared, ("model",), handlers.draw_speed, outputs)
    with asked:
        lined_up = _take_up(shared, controls, views)
        _make_the_first(shared, controls, gain, views, lined_up)
    _wire(shared, controls, gain, views)
    compare_api.create_endpoints(AT_ONCE)


def _create_controls(shared: Shared) -> _Controls:
    """The shared controls that choose the picture, then what only this tab asks."""
    html_part(
        "subject", {}, scripts=("store",), apply_default_css=False, elem_id="compare-subject", longest=LONGEST_PROMPT
    )
    shared.seed.render()
    way = gr.Radio(LINE_UPS, value="bits", label="What the pictures differ in", elem_id="compare-line-up")
    bits = gr.Dropdown(
        list(BITS),
        value=list(DEFAULT_BITS),
        multiselect=True,
        max_choices=MOST_VARIANTS,
        allow_custom_value=True,
        label="Variants",
        info="weight and activation bits; the switches as in the bar above, or as named",
        elem_id="compare-bits",
    )
    with gr.Row():
        generate = gr.Button("Generate", variant="primary", elem_id="compare-generate", min_width=120, scale=2)
        cancel = gr.Button("Cancel", interactive=False, elem_id="compare-cancel", min_width=90)
    with gr.Accordion("Steps, guidance, sampler", open=False):
        shared.steps.render()
        shared.guidance.render()
        backend = gr.Radio(RUN_BY, value="auto", label="Computed with", elem_id="compare-backend")
        sampler = gr.Dropdown(SAMPLER_NAMES, value=SAMPLERS[0], label="Sampler", elem_id="compare-sampler")
    return _Controls(line_up=way, backend=backend, bits=bits, sampler=sampler, generate=generate, cancel=cancel)


def _take_up(shared: Shared, controls: _Controls, views: _Views) -> Dependency:
    """Line the variants up as the link and then the bar say; keep the link and the page in step with the controls.

    The event that lines them up.
    """
    own = [controls.line_up, controls.bits, controls.sampler, controls.backend]
    taken = gr.State("")
    lined_up = follow(
        shared,
        ("weight_bits", "activation_bits"),
        line_up.take_up,
        [*own, taken, views.chart],
        own=[controls.line_up, controls.bits, taken],
        triggers=[controls.line_up.change],
        linked=list(LINK),
    )
    tell(dict(zip(LINK, own, strict=True)), LINK)
    return lined_up


def _make_the_first(shared: Shared, controls: _Controls, gain: gr.Slider, views: _Views, lined_up: Dependency) -> None:
    """Open with a comparison: one that is kept, else as if Generate had been pressed, where that takes seconds."""
    first = html_part("first", {"begin": False}, elem_classes="follower", after=LINED_UP)
    lined_up.then(None, js=f"() => {{ document.dispatchEvent(new Event('{LINED_UP}')); return []; }}", **PRIVATE)
    press = "(first) => { if (first.begin) document.querySelector('#compare-generate').click(); return []; }"
    asked = _asked(shared, controls, gain)
    recalled = first.select(handlers.recall_first, asked, [first, *vars(views).values()], **QUIET)
    recalled.then(None, first, None, js=press, **PRIVATE)


def _asked(shared: Shared, controls: _Controls, gain: gr.Slider) -> list[gr.components.Component]:
    """What a run is asked by, in the order of `compare_handlers.compare_live`."""
    return [controls.bits, controls.sampler, controls.backend, gain, *shared.inputs]


def _create_views(shared: Shared, cancel: gr.Button) -> tuple[gr.Slider, _Views]:
    """Progress and pictures; after a run gain of the maps, slider, numbers and download; the drift as it goes."""
    start = fit(Selection(), shared.outline)[0]
    ages = ("store", "age")
    progress = html_part("progress", view.idle(start.steps), scripts=ages, elem_id="compare-progress")
    empty = Frame(request=Request.of(start, selected_variants(start)), note="")
    cards = html_part("cards", view.cards(empty, 1), scripts=ages, elem_id="compare-cards")
    with gr.Column(visible=False, elem_id="compare-details") as details:
        gain = gr.Slider(1, 64, 8, step=1, label="Gain of the difference maps", elem_id="compare-gain")
        with gr.Column(elem_classes="card"):
            gr.Markdown("### Full precision on the left, a variant on the right")
            against = gr.Dropdown([], label="Variant", show_label=False, elem_id="compare-against", interactive=True)
            wipe = html_part("wipe", handlers.NOTHING_DRAWN, scripts=ages, elem_id="compare-wipe")
        with gr.Column(elem_classes="card"):
            gr.Markdown("### Numbers of this run\nMilliseconds are medians on this machine, as busy as it is.")
            table = html_part("table", view.numbers(empty), elem_id="compare-numbers")
        finished = gr.State(None)
        asked = [gain, finished]
        zipped = download("Download pictures and numbers", handlers.offer_zip, asked, "compare-download", ready=False)
    with gr.Column(elem_classes="card", elem_id="compare-drift"):
        gr.Markdown("### Drift: how far the latents stray from full precision, step by step")
        drift = chart("Drift along the trajectory", 300)
    views = _Views(
        progress=progress,
        cards=cards,
        details=details,
        table=table,
        chart=drift,
        download=zipped,
        cancel=cancel,
        against=against,
        wipe=wipe,
        finished=finished,
    )
    return gain, views


def _wire(shared: Shared, controls: _Controls, gain: gr.Slider, views: _Views) -> None:
    controls.generate.click(
        handlers.compare_live,
        _asked(shared, controls, gain),
        list(vars(views).values()),
        show_progress="minimal",
        show_progress_on=views.progress,
        trigger_mode="multiple",  # pressed again, it begins anew
        **AT_ONCE,
        **PRIVATE,
    ).then(lambda: gr.update(interactive=False), None, controls.cancel, **QUIET)
    controls.cancel.click(handlers.cancel_run, None, None, **QUIET)
    shared.model.change(handlers.start_anew, [controls.bits, *shared.inputs], list(vars(views).values()), **QUIET)
    gain.change(handlers.regain, [gain, views.finished], views.cards, trigger_mode="always_last", **QUIET)
    views.against.input(handlers.slide, [views.against, views.finished], views.wipe, **QUIET)
    if Context.root_block is not None:
        Context.root_block.unload(handlers.cancel_run)
