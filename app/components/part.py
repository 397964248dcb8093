"""Custom parts: a `gr.HTML` whose template, style and script stand in files of one name under `parts/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

PARTS = Path(__file__).parent / "parts"


def html_part(name: str, value: dict[str, Any], scripts: Sequence[str] = (), **options: Any) -> gr.HTML:
    """The part `name` showing `value`; `scripts` run before its own, `options` are those of `gr.HTML`.

    The template sees `value` through Handlebars. On a new value only attributes and texts that differ are touched, so
    pictures change without a flicker; what a script sets on `element` itself survives.
    """
    return gr.HTML(
        value,
        html_template=_read(name, "html"),
        css_template=_read(name, "css"),
        js_on_load="\n".join(_read(one, "js") for one in (*scripts, name)).strip() or None,
        **options,
    )


def script(name: str) -> str:
    """The script `name` by itself: an expression that is a function, for the `js` of an event."""
    return _read(name, "js").strip()


def _read(name: str, suffix: str) -> str:
    file = PARTS / f"{name}.{suffix}"
    return file.read_text() if file.is_file() else ""
