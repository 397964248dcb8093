"""How the app looks: theme and style. System fonts only; nothing is fetched from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes.utils import colors

SYSTEM_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO_FONT = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    """A quiet theme around the blue that stands for activations."""
    quiet = gr.themes.Default(
        primary_hue=colors.sky,
        secondary_hue=colors.sky,
        neutral_hue=colors.slate,
        font=SYSTEM_FONT,
        font_mono=MONO_FONT,
    )
    return quiet.set(
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        link_text_color="*primary_700",
        link_text_color_hover="*primary_800",
        link_text_color_visited="*primary_700",
        **{  # white on it stands out more than 4.5 to 1
            f"button_primary_{part}{state}{mode}": shade
            for state, shade in (("", "*primary_700"), ("_hover", "*primary_800"))
            for part in ("background_fill", "border_color")
            for mode in ("", "_dark")
        },
    )


def look() -> dict[str, Any]:
    """What of `gr.Blocks.launch` is how the page looks."""
    return {"theme": theme(), "css_paths": Path(__file__).parent / "style.css"}
