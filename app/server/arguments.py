"""What `python app.py` is given on the command line; whatever is not given there is read from the environment."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from app.server.environment import HERE

EPILOG = (
    "The demo models are always in the menu. Each option can be set in the environment instead: PTQ4DIT_MODEL (several "
    "with a line, or the separator of PATH, between them), GRADIO_SERVER_NAME, GRADIO_SERVER_PORT, GRADIO_SHARE, "
    "PTQ4DIT_CACHE, PTQ4DIT_DEVICE."
)


def take(arguments: Sequence[str]) -> None:
    """Put what was given into the environment, from which all else reads it; ends the process where it makes no sense.

    Called before gradio is imported, which reads its own part there.
    """
    options = _parser().parse_args(arguments)
    given = {
        "PTQ4DIT_MODEL": "\n".join(_located(options.model)),
        "GRADIO_SERVER_NAME": options.host,
        "GRADIO_SERVER_PORT": options.port,
        "GRADIO_SHARE": "True" if options.share else None,
        "PTQ4DIT_CACHE": options.cache,
        "PTQ4DIT_DEVICE": options.device,
    }
    os.environ.update({name: str(value) for name, value in given.items() if value})
    from app.services.shelf import OWNER

    os.environ.setdefault(OWNER, "1" if _by_hand() else "0")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python app.py",
        description="Explore diffusion transformers and what quantizing does to them.",
        epilog=EPILOG,
    )
    text = "what to explore: a pipeline folder, a hub id, an official .pt file, a quantized folder; the first one opens"
    parser.add_argument("model", nargs="*", metavar="MODEL", help=text)
    parser.add_argument(
        "--host", help="address to listen at, such as 0.0.0.0 for all of this machine's; 127.0.0.1 if none"
    )
    parser.add_argument("--port", type=int, help="port to listen at; the first free one from 7860 on if none")
    parser.add_argument("--share", action="store_true", help="also through a public link of gradio's")
    parser.add_argument("--cache", help="folder for what is made of models that cannot be written to")
    parser.add_argument("--device", help="where models run, such as cuda; cpu if none")
    return parser


def _located(models: Sequence[str]) -> list[str]:
    """The models, found from here; a sentence on stderr and status 2 for what is not there."""
    from app.services.shelf import located

    try:
        return [located(model) for model in models]
    except ValueError as error:
        sys.stderr.write(f"app.py: {error}\n")
        raise SystemExit(2) from None


def _by_hand() -> bool:
    """Whether whoever sees the page is whoever launched it: on this machine's own address, not shared, no Space."""
    host = os.environ.get("GRADIO_SERVER_NAME", HERE[1])
    shared = os.environ.get("GRADIO_SHARE", "").lower() in ("1", "true", "yes")
    return host in HERE and not shared and "SPACE_ID" not in os.environ
