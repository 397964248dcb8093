"""How a link to the app looks where it is shared: a card of its own stands in the page's head instead of Gradio's.

It is in the page as it is served, for whoever makes a preview of a link runs no script.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path

from jinja2 import BaseLoader, Environment
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

TITLE = "PTQ4DiT: why quantizing a diffusion transformer works"
ABOUT = (
    "Flip a switch and watch outlier channels break a picture at 8 and 4 bits, and balancing bring it back. "
    "Every layer, channel and timestep can be looked at, live, on two CPU cores."
)
THUMBNAIL = Path(__file__).parents[2] / "assets" / "thumbnail.png"
_PICTURE = "{{ config.get('root', '') }}/card.png"
_SAID = {
    "og:type": "website",
    "og:site_name": "PTQ4DiT Explorer",
    "og:title": TITLE,
    "og:description": ABOUT,
    "og:image": _PICTURE,
    "og:image:width": "1280",
    "og:image:height": "640",
    "og:image:alt": "The same picture in full precision and quantized, side by side",
    "twitter:card": "summary_large_image",
    "twitter:title": TITLE,
    "twitter:description": ABOUT,
    "twitter:image": _PICTURE,
}
_THEIRS = re.compile(r'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>')


class Carded(BaseLoader):
    """Templates as another loader has them, with our card where theirs stands."""

    def __init__(self, loader: BaseLoader) -> None:
        self._loader = loader

    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, Callable[[], bool] | None]:
        """A template's text, its file, and whether that is still as it was."""
        source, file, unchanged = self._loader.get_source(environment, template)
        return carded(source), file, unchanged


def carded(source: str) -> str:
    """A page's template with our card instead of every line of another one."""
    kinds = {name: "property" if name.startswith("og:") else "name" for name in _SAID}
    ours = "\n".join(f'<meta {kinds[name]}="{name}" content="{text}" />' for name, text in _SAID.items())
    instead = chain([f'{ours}\n<meta name="description" content="{ABOUT}" />'], repeat(""))
    return _THEIRS.sub(lambda _: next(instead), source)


def show_card() -> None:
    """Let the served page carry our card."""
    from gradio.routes import templates

    loader = templates.env.loader
    if loader is not None and not isinstance(loader, Carded):
        templates.env.loader = Carded(loader)


def routes() -> list[Route]:
    """Where the card's picture is."""
    return [Route("/card.png", _picture)]


async def _picture(request: Request) -> FileResponse:
    return FileResponse(THUMBNAIL, media_type="image/png", headers={"cache-control": "public, max-age=86400"})
