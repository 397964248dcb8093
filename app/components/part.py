"""Custom parts: a `gr.HTML` whose template, style and script stand in files of one name under `parts/`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

PARTS = Path(__file__).parent / "parts"
_INNER = re.compile(r"\{\{> (\w+)\}\}")


def html_part(name: str, value: dict[str, Any], scripts: Sequence[str] = (), **options: Any) -> gr.HTML:
    """The part `name` showing `value`; `scripts` run before its own, `options` are those of `gr.HTML`.

    The template sees `value` through Handlebars. On a new value only attributes and texts that differ are touched, so
    pictures change without a flicker; what a script sets on `element` itself survives. Where the template says
    `{{> other}}` the part `other` stands, with its style to itself and the same `value`; its script is not run.
    """
    template = _read(name, "html")
    inner = "\n".join(f".{one}-part {{ {_read(one, 'css')} }}" for one in _INNER.findall(template))
    return gr.HTML(
        value,
        html_template=_INNER.sub(_inner, template),
        css_template=f"{_read(name, 'css')}\n{inner}".strip(),
        js_on_load="\n".join(_read(one, "js") for one in (*scripts, name)).strip() or None,
        **options,
    )


def script(name: str) -> str:
    """The script `name` by itself: an expression that is a function, for the `js` of an event."""
    return _read(name, "js").strip()


def _inner(found: re.Match[str]) -> str:
    """A part that stands within another one."""
    return f'<div class="{found[1]}-part">{_read(found[1], "html")}</div>'


def _read(name: str, suffix: str) -> str:
    file = PARTS / f"{name}.{suffix}"
    return file.read_text(encoding="utf-8") if file.is_file() else ""
