"""Which requests come in at all, and how large they may be: what nothing on the page uses is shut."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

LARGEST = 64 * 1024  # bytes of a request's body; the page's own stay below a tenth of it
PATIENCE = 10.0  # seconds in which a body has to arrive
API = "/gradio_api/"
_POSTED = re.compile(r"(queue/join|(call|call/v2|run|api)/[^/]+|cancel|reset|component_server|mcp(/.*)?)/?")
_SHUT = re.compile(r"(deep_link|upload|process_recording|custom_component|proxy=|vibe|dev/|run-history|stream/)")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Check = Callable[[Scope, str, bytes], "Refusal | None"]


class Refusal(Exception):
    """A request that is not let in: status, what is said in one sentence, further headers."""

    def __init__(self, status: int, detail: Any, **headers: str) -> None:
        super().__init__(str(detail))
        self.status, self.detail, self.headers = status, detail, headers


class Doors:
    """Middleware that answers by itself what is not to be let in; nothing of that is read further or written to disk.

    Bodies are JSON of at most `LARGEST` bytes. `check(scope, path below the API, body)` says what is wrong with one.
    """

    def __init__(self, app: App, check: Check = lambda scope, path, body: None) -> None:
        self._app, self._check = app, check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            if scope["method"] in ("GET", "HEAD", "OPTIONS"):
                _require_open(scope)
            else:
                receive = await self._posted(scope, receive)
        except Refusal as refusal:
            return await _answer(refusal, send)
        await self._app(scope, receive, send)

    async def _posted(self, scope: Scope, receive: Receive) -> Receive:
        """The body of a request that may be posted, to be received once more. Raises Refusal."""
        _require_open(scope)
        path = _below(scope)
        if scope["method"] != "POST" or not _POSTED.fullmatch(path):
            raise Refusal(405, "Nothing is posted here.")
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if not headers.get("content-type", "application/json").startswith("application/json"):
            raise Refusal(415, "Expected JSON; files are not taken.")
        body = await _body(headers, receive)
        refusal = self._check(scope, path.rstrip("/"), body)
        if refusal is not None:
            raise refusal
        return _again(body, receive)


def _below(scope: Scope) -> str:
    """The path below the API's, wherever that is mounted; empty elsewhere."""
    return str(scope["path"]).partition(API)[2]


def _require_open(scope: Scope) -> None:
    if _SHUT.match(_below(scope)):
        raise Refusal(404, "This app takes no files and has nothing here.")


async def _body(headers: dict[str, str], receive: Receive) -> bytes:
    """All of a body. Raises Refusal for one that is too large, before it is read where it says so, or too slow."""
    told = headers.get("content-length", "0")
    if not told.isdigit() or int(told) > LARGEST:
        raise _too_large()
    parts, size = [], 0
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refusal(400, "The request ended early.")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > LARGEST:
                    raise _too_large()
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise Refusal(408, f"Expected the whole request within {PATIENCE:g} s.") from None


def _too_large() -> Refusal:
    return Refusal(413, f"Expected at most {LARGEST} bytes.")


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that has been read, to be received once more; then what else comes."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return left.pop() if left else await receive()

    return received


async def _answer(refusal: Refusal, send: Send) -> None:
    """Say why not, and end the connection: what is still on its way is not waited for."""
    body = json.dumps({"detail": refusal.detail}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    pairs = [(name.encode(), value.encode()) for name, value in (headers | refusal.headers).items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
