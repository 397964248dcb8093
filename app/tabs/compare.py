"""Compare: full precision and quantized variants from the same noise, generated live, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr
from gradio.context import get_blocks_context

from app.components.controls import Shared
from app.components.messages import explained
from app.components.part import html_part
from app.content import words
from app.services import generation, running
from app.services.request import DEFAULT_BITS, MOST_VARIANTS, SAMPLERS, Request, parse_variants
from app.state import Selection
from app.tabs import compare_api
from app.tabs import compare_view as view
from app.tabs.compare_files import write_zip

AT_ONCE = {"concurrency_limit": 2, "concurrency_id": "generate"}  # runs under way at a time; further ones queue
BITS = ("W8A8", "W6A8", "W5A8", "W4A8", "W3A8", "W2A8", "W8A6", "W6A6", "W4A6", "W8A4", "W4A4")
SAMPLER_NAMES = [("DDIM", "ddim"), ("DDPM", "ddpm"), ("DPM-Solver++", "dpm++")]
FEWEST_LINES = 2  # steps that a drift line needs to be one


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the tab shows, in the order in which a run's updates come."""

    progress: gr.HTML
    cards: gr.HTML
    chart: gr.Plot
    table: gr.Dataframe
    download: gr.DownloadButton
    cancel: gr.Button
    finished: gr.State

    @property
    def outputs(self) -> list[Any]:
        """All of them, as the outputs of a run."""
        return list(vars(self).values())


def create_compare_tab(shared: Shared) -> None:
    """Build the tab: what to generate on one side, pictures and numbers on the other."""
    start = Selection()
    request = Request(variants=parse_variants(DEFAULT_BITS, start.csb, start.ssc))
    empty = generation.Frame(request=request, note="")
    with gr.Row(elem_id="compare"):
        with gr.Column(scale=3, min_width=280):
            gr.Markdown(words("compare"))
            bits, sampler, generate, cancel = _controls(shared)
        with gr.Column(scale=8, min_width=300):
            progress = html_part("progress", view.idle(request), elem_id="compare-progress")
            cards = html_part("cards", view.cards(empty, 1), elem_id="compare-cards")
            gain = gr.Slider(1, 32, 8, step=1, label="Gain of the difference maps", elem_id="compare-gain")
            table = gr.Dataframe(
                headers=["Against full precision", "PSNR (dB)", "SSIM", "Drift at the end"],
                label="Numbers, simulated",
                interactive=False,
                elem_id="compare-numbers",
            )
            chart = gr.Plot(label="Drift along the trajectory", elem_id="compare-drift", visible=False)
            download = gr.DownloadButton("Download pictures and numbers", interactive=False, elem_id="compare-download")
    parts = Parts(
        progress=progress,
        cards=cards,
        chart=chart,
        table=table,
        download=download,
        cancel=cancel,
        finished=gr.State(None),
    )
    _wire(shared, parts, generate, [bits, sampler, gain])
    compare_api.create_endpoints(AT_ONCE)


def _controls(shared: Shared) -> tuple[gr.Dropdown, gr.Dropdown, gr.Button, gr.Button]:
    """The shared controls that choose the picture, then what only this tab asks."""
    shared.class_id.render()
    shared.seed.render()
    shared.steps.render()
    shared.guidance.render()
    sampler = gr.Dropdown(SAMPLER_NAMES, value=SAMPLERS[0], label="Sampler", elem_id="compare-sampler")
    bits = gr.Dropdown(
        list(BITS),
        value=list(DEFAULT_BITS),
        multiselect=True,
        max_choices=MOST_VARIANTS,
        allow_custom_value=True,
        label="Against full precision",
        info="weight and activation bits, e.g. W4A8",
        elem_id="compare-bits",
    )
    with gr.Row():
        generate = gr.Button("Generate", variant="primary", elem_id="compare-generate")
        cancel = gr.Button("Cancel", variant="stop", interactive=False, elem_id="compare-cancel")
    return bits, sampler, generate, cancel


def _wire(shared: Shared, parts: Parts, generate: gr.Button, own: list[gr.components.Component]) -> None:
    private: dict[str, Any] = {"api_visibility": "private"}
    quiet: dict[str, Any] = {**private, "queue": False, "show_progress": "hidden"}
    run = generate.click(
        compare_live, [*own, *shared.inputs], parts.outputs, show_progress="minimal", show_progress_on=parts.progress,
        **AT_ONCE, **private,
    )
    run.then(lambda: gr.update(interactive=False), None, parts.cancel, **quiet)
    parts.cancel.click(cancel_run, None, None, **quiet)
    own[2].change(regain, [own[2], parts.finished], parts.cards, trigger_mode="always_last", **quiet)
    page = get_blocks_context()
    if page is not None:
        page.unload(cancel_run)


def make_request(bits: list[str], sampler: str, selection: Selection) -> Request:
    """What the controls ask for. Raises ValueError where it cannot be generated."""
    return Request(
        class_id=selection.class_id,
        seed=selection.seed,
        steps=selection.steps,
        guidance=selection.guidance,
        sampler=sampler,
        strength=selection.strength,
        variants=parse_variants(bits, selection.csb, selection.ssc),
    )


def compare_live(request: gr.Request, bits: list[str], sampler: str, gain: float, *values: Any) -> Iterator[list[Any]]:
    """Run a comparison and show it as it goes. The outputs are those of `Parts`."""
    with explained(), running.begin(request.session_hash or "") as cancelled:
        asked = make_request(bits, sampler, Selection.from_controls(*values))
        frame = shown = generation.Frame(request=asked, note="Starting")
        for frame in generation.run(asked, cancelled):
            yield _update(frame, gain, pictures_changed=frame.pictures is not shown.pictures or not frame.step)
            shown = frame
        if frame.finished:
            with TemporaryDirectory() as folder:
                yield _finished(frame, gain, Path(folder))
        else:
            yield _stopped(frame)


def _update(frame: generation.Frame, gain: float, pictures_changed: bool) -> list[Any]:
    """A running comparison: pictures and chart only where they changed."""
    cards = view.cards(frame, gain) if pictures_changed else gr.skip()
    many = bool(frame.drift) and len(frame.drift[0]) >= FEWEST_LINES
    chart = gr.update(value=view.chart(frame), visible=True) if pictures_changed and many else gr.skip()
    return [view.progress(frame), cards, chart, gr.skip(), gr.skip(), gr.update(interactive=True), gr.skip()]


def _finished(frame: generation.Frame, gain: float, folder: Path) -> list[Any]:
    """A finished comparison: numbers and files as well."""
    generation.remember(frame)
    return [
        view.progress(frame),
        view.cards(frame, gain),
        gr.update(value=view.chart(frame), visible=len(frame.timesteps) >= FEWEST_LINES),
        view.numbers(frame),
        gr.update(value=str(write_zip(frame, gain, folder)), interactive=True),
        gr.update(interactive=False),
        frame.request,
    ]


def _stopped(frame: generation.Frame) -> list[Any]:
    """A cancelled comparison: what there is stays, and says so."""
    note = f"Cancelled at step {frame.step} of {frame.request.steps}"
    progress = view.progress(frame) | {"note": note}
    return [progress, gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.update(interactive=False), gr.skip()]


def cancel_run(request: gr.Request) -> None:
    """Cancel the run of this session, if there is one; it stops within one step."""
    running.cancel(request.session_hash or "")


def regain(gain: float, finished: Request | None) -> Any:
    """The cards of the last finished comparison, with difference maps at another gain."""
    frame = generation.recall(finished) if finished else None
    return gr.skip() if frame is None else view.cards(frame, gain)
