"""Which methods there are, read off their files: one that is added to `ptq4dit/methods/` is known here at once.

The files import torch; a parser, a form and a config only need names. So the literal arguments of
``METHOD = Method(...)`` are read from each file's text, and nothing is run.
"""

import ast
from functools import cache
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parents[1] / "methods"


@cache
def method_facts() -> dict[str, dict[str, Any]]:
    """Name -> what its ``Method(...)`` says in literals (title, citation, place, learns, ...), in the tables' order."""
    facts = [said for path in _FOLDER.glob("*.py") if (said := _said(path)) is not None]
    return {said["name"]: said for said in sorted(facts, key=lambda said: said["place"])}


def method_names(*, learns: str | None = None) -> tuple[str, ...]:
    """Names of the recipes in the order in which tables show them; those that learn their rounding in this way only."""
    return tuple(name for name, said in method_facts().items() if learns in (None, said.get("learns", "nothing")))


def _said(path: Path) -> dict[str, Any] | None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "METHOD":
            words = node.value.keywords if isinstance(node.value, ast.Call) else []
            plain = [word for word in words if not isinstance(word.value, ast.Name | ast.Attribute)]
            return {str(word.arg): ast.literal_eval(word.value) for word in plain}
    return None
