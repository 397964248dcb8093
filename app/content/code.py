"""The program that asks for what the page shows: a template that the page's script fills in, and tests as it does."""

from __future__ import annotations

import re

from app.content import words

_FENCED = re.compile(r"```python\n(.*?)```", re.DOTALL)
HOLE = re.compile(r"«(\w+)»")


def template() -> str:
    """The program, with «names» where Python literals of the selection go, of its bits, and of the page's address."""
    found = _FENCED.search(words("client"))
    if found is None:
        raise ValueError("content/client.md: expected a fenced Python program; found none")
    return found[1].rstrip()
