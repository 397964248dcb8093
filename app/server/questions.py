"""What is asked is checked before anything waits for it or is made: its shape here, its sense by its handler."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from app.components.messages import in_words
from app.server.doors import Refusal, Scope
from app.server.visitors import require_room
from app.state import brief, one_of, switch, within

LONGEST_TEXT = 200  # characters; the longest that the page sends is a layer's name
DEEPEST = 6  # lists and objects in each other
LARGEST_NUMBER = 2**53
_SESSION = re.compile(r"[\w-]{1,64}")
_EVENT = re.compile(r"(call|call/v2|run|api)/([^/]+)")


class Questions:
    """Says what is wrong with what is posted to a page, in one sentence; None where nothing is."""

    def __init__(self, page: gr.Blocks) -> None:
        self._page = page

    def __call__(self, scope: Scope, path: str, body: bytes) -> Refusal | None:
        """What is wrong with a body posted to a path below the API's."""
        if path.startswith("mcp"):
            return None
        about = _EVENT.fullmatch(path)
        try:
            asked = _read(body)
            if path == "component_server":
                self._require_server_function(asked)
            elif path == "queue/join" or about:
                self._require_event(scope, asked, about)
        except Refusal as refusal:
            return refusal
        except ValueError as error:
            # gradio's clients show a sentence that comes so.
            named = about[2] if about else "question"
            detail = {"__type__": "validate", "is_valid": False, "message": in_words(error), "parameter_name": named}
            return Refusal(422, [detail])
        return None

    def _require_event(self, scope: Scope, asked: dict[str, Any], about: re.Match[str] | None) -> None:
        """Raise ValueError unless the event is one of the page's and its data are what its handler takes."""
        function = self._function(asked, about)
        data = _in_order(function, asked) if about and about[1] == "call/v2" else asked.get("data")
        if not isinstance(data, list):
            raise ValueError(f"data: expected a list of values; got {brief(data)}")
        blocks = self._blocks(asked.get("session_hash"))
        inputs = [blocks.get(block._id, block) for block in function.inputs]
        if len(data) != len(inputs) and about and about[1].startswith("call"):  # there the server's own may be left out
            inputs = [block for block in inputs if not block.skip_api]
        if len(data) != len(inputs):
            names = list(inspect.signature(function.fn).parameters)
            raise ValueError(f"data: expected {len(inputs)} values ({', '.join(names)}); got {len(data)}")
        for block, value in zip(inputs, data, strict=True):
            _require_value(block, value)
        check = getattr(function.fn, "checked_by", None)
        if check is not None:
            check(*data)
        require_room(self._page._queue, scope, asked.get("session_hash"), function)

    def _function(self, asked: dict[str, Any], about: re.Match[str] | None) -> Any:
        """The event that is asked for."""
        functions = self._page.fns
        if about and asked.get("fn_index") is None:
            found = [one for one in functions.values() if one.api_name == about[2] and one.fn is not None]
            if not found or found[0].api_visibility == "private":
                public = sorted(
                    str(one.api_name) for one in functions.values() if one.api_visibility == "public" and one.fn
                )
                raise ValueError(f"endpoint: expected one of {', '.join(public)}; got {brief(about[2])}")
            return found[0]
        number = asked.get("fn_index")
        function = functions.get(number) if isinstance(number, int) and not isinstance(number, bool) else None
        if function is None or function.fn is None:
            raise ValueError(f"fn_index: expected the number of an event of the page; got {brief(number)}")
        return function

    def _blocks(self, session: Any) -> Mapping[int, Any]:
        """The page's components as a session has them, whose choices may have changed."""
        kept = self._page.state_holder.session_data.get(session)
        return kept.blocks_config.blocks if kept else self._page.blocks

    def _require_server_function(self, asked: dict[str, Any]) -> None:
        """Raise ValueError unless the part and its function are the page's."""
        number, name = asked.get("component_id"), asked.get("fn_name")
        block = self._page.blocks.get(number) if isinstance(number, int) else None
        functions = {one.__name__: one for one in getattr(block, "server_fns", ())}
        if not isinstance(name, str) or name not in functions:
            raise ValueError(f"fn_name: expected a function of a part of the page; got {brief(name)}")
        if asked.get("session_hash") is None:
            raise ValueError("session_hash: expected the session's name; got none")
        if "data" not in asked:
            raise ValueError("data: expected what is asked; got nothing")
        check = getattr(functions[name], "checked_by", None)
        if check is not None:
            check(asked["data"])


def _read(body: bytes) -> dict[str, Any]:
    """The body's JSON object, small and plain all through. Raises ValueError, Refusal."""
    try:
        asked = json.loads(body or b"{}", parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refusal(400, "Expected a JSON object; this is none.") from None
    if not isinstance(asked, dict):
        raise Refusal(400, "Expected a JSON object; this is another value.")
    _require_plain(asked, DEEPEST)
    session = asked.get("session_hash")
    if session is not None and not (isinstance(session, str) and _SESSION.fullmatch(session)):
        raise ValueError(f"session_hash: expected up to 64 letters, digits, '-' and '_'; got {brief(session)}")
    for name, kind, wanted in (
        ("trigger_id", int, "a number"),
        ("fn_index", int, "a number"),
        ("event_id", str, "a name"),
    ):
        value = asked.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise ValueError(f"{name}: expected {wanted}; got {brief(value)}")
    for name in ("batched", "simple_format", "oauth_token"):
        if asked.get(name):
            raise ValueError(f"{name}: expected none; got {brief(asked[name])}")
    return asked


def _no_number(name: str) -> None:
    raise ValueError(f"number: expected a finite one; got {name}")


def _require_plain(value: Any, deepest: int) -> None:
    """Raise ValueError for a text that is too long, a number that is too large, a file, or too much in each other."""
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise ValueError(f"text: expected at most {LONGEST_TEXT} characters; got {len(value)}")
    if isinstance(value, (int, float)) and not -LARGEST_NUMBER <= value <= LARGEST_NUMBER:
        raise ValueError("number: expected one of at most 15 digits; got a larger one")
    if not isinstance(value, (list, dict)):
        return
    if not deepest:
        raise ValueError(f"value: expected at most {DEEPEST} lists and objects in each other; got more")
    if isinstance(value, dict):
        if {"path", "meta", "orig_name"} & value.keys():
            raise ValueError("file: expected none, as this app takes no files; got one")
        for key in value:
            _require_plain(key, deepest - 1)
    for inner in value.values() if isinstance(value, dict) else value:
        _require_plain(inner, deepest - 1)


def _in_order(function: Any, asked: dict[str, Any]) -> list[Any]:
    """Values by the names of an endpoint's parameters, in the order of the parameters."""
    parameters = inspect.signature(function.fn).parameters
    unknown = [name for name in asked if name not in parameters]
    missing = [name for name, one in parameters.items() if one.default is one.empty and name not in asked]
    if unknown or missing:
        raise ValueError(f"data: expected {', '.join(parameters)}; got {brief(', '.join(asked))}")
    return [asked.get(name, one.default) for name, one in parameters.items()]


def _require_value(block: Any, value: Any) -> None:
    """Raise ValueError unless a component of this kind can have the value."""
    name = getattr(block, "label", None) or getattr(block, "elem_id", None) or "value"
    require = _KINDS.get(type(block))
    if require is not None:
        require(block, str(name).lower(), value)


def _require_slider(block: Any, name: str, value: Any) -> None:
    within(name, value, float(block.minimum), float(block.maximum))


def _require_number(block: Any, name: str, value: Any) -> None:
    if value is not None:
        within(name, value, float(-LARGEST_NUMBER), float(LARGEST_NUMBER))


def _require_choice(block: Any, name: str, value: Any) -> None:
    values = [one for _, one in block.choices]
    if getattr(block, "multiselect", False):
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ValueError(f"{name}: expected a list of texts; got {brief(value)}")
    elif value is not None and not getattr(block, "allow_custom_value", False):
        one_of(name, value, values)


def _require_part(block: Any, name: str, value: Any) -> None:
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{name}: expected what the part holds; got {brief(value)}")


_KINDS: dict[type, Callable[[Any, str, Any], Any]] = {
    gr.Slider: _require_slider,
    gr.Number: _require_number,
    gr.Checkbox: lambda block, name, value: switch(name, value),
    gr.Dropdown: _require_choice,
    gr.Radio: _require_choice,
    gr.HTML: _require_part,
}
