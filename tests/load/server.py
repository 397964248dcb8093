"""The app in a process of its own, as its visitors meet it: its address, its memory, its log, its disk."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 600.0  # seconds; a busy machine is not a failure


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running app."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    temporary: Path

    def resident(self) -> float:
        """Megabytes of memory that the process holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.split("VmRSS:")[1].split()[0]) / 1000

    def worked(self) -> float:
        """Seconds of processor time that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def written(self) -> int:
        """Bytes of everything in the process's own folder for temporary files."""
        return sum(path.stat().st_size for path in self.temporary.rglob("*") if path.is_file())

    def told(self) -> str:
        """The log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def config(self) -> dict[str, Any]:
        """What the page is built from."""
        with urllib.request.urlopen(f"{self.url}/config", timeout=60) as answer:
            return dict(json.load(answer))


@contextmanager
def served(folder: Path, *, cwd: Path = ROOT, env: dict[str, str] | None = None) -> Iterator[Served]:
    """Start the app with its temporary files in `folder`, wait until it answers, end it afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    temporary, log = folder / "temporary", folder / "log"
    temporary.mkdir(parents=True, exist_ok=True)
    settings = {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False", "TMPDIR": str(temporary)}
    command = [sys.executable, str(ROOT / "app.py")]
    with log.open("wb") as output:
        given = os.environ | settings | (env or {})
        process = subprocess.Popen(command, cwd=cwd, env=given, stdout=output, stderr=subprocess.STDOUT)
    running = Served(url=f"http://127.0.0.1:{port}", process=process, log=log, temporary=temporary)
    try:
        answering(running)
        yield running
    finally:
        process.kill()
        process.wait()


def answering(running: Served) -> None:
    """Wait until the app answers."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and running.process.poll() is None:
        try:
            return urllib.request.urlopen(running.url, timeout=30).close()
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"The app did not start:\n{running.told()}")


def post(url: str, body: Any, timeout: float = 60) -> tuple[int, Any]:
    """Status and JSON of what the server answers to a JSON body; the answer's text where it is no JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode(errors="replace")
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


def new_session() -> str:
    """A session's name as the page's script makes one."""
    return uuid.uuid4().hex[:11]


def events(url: str, session: str, timeout: float = 60) -> Iterator[dict[str, Any]]:
    """Messages of the session's stream as they come; whoever stops listening has left."""
    with urllib.request.urlopen(f"{url}/gradio_api/queue/data?session_hash={session}", timeout=timeout) as stream:
        for line in stream:
            if line.startswith(b"data:"):
                yield json.loads(line[5:])


def ask(url: str, api_name: str, *data: Any, session: str | None = None, timeout: float = 60) -> Any:
    """What a named endpoint answers a visitor of its own, as gradio's clients ask: its data, or its error's words."""
    session = session or new_session()
    status, answer = join(url, api_name, *data, session=session, timeout=timeout)
    if status != 200:
        return {"status": status, "error": answer}
    for message in events(url, session, timeout):
        if message["msg"] == "process_completed":
            return message["output"].get("data") or message["output"]
    raise AssertionError(f"{api_name}: the stream ended without an answer")


def join(url: str, api_name: str, *data: Any, session: str, timeout: float = 60) -> tuple[int, Any]:
    """Ask a named endpoint, and do not wait for its answer: the status, and what was said at once."""
    given = [*data, *_usual(url, api_name)[len(data) :]]
    body = {"data": given, "fn_index": _numbers(url)[api_name], "session_hash": session}
    return post(f"{url}/gradio_api/queue/join", body, timeout)


@cache
def _usual(url: str, api_name: str) -> list[Any]:
    """An endpoint's values where a client does not give them."""
    with urllib.request.urlopen(f"{url}/gradio_api/info", timeout=60) as answer:
        parameters = json.load(answer)["named_endpoints"][f"/{api_name}"]["parameters"]
    return [one.get("parameter_default") for one in parameters]


def begin_learning(app: Served, method: str) -> Iterator[dict[str, Any]]:
    """Press Run of the Methods tab in a tab of its own; returns once the model is being learned, with the stream."""
    config = app.config()
    number = next(d["id"] for d in config["dependencies"] if d["targets"] and _target(config, d) == "methods-run")
    inputs = next(d for d in config["dependencies"] if d["id"] == number)["inputs"]
    values = {c["id"]: c["props"].get("value") for c in config["components"]}
    data = [method, "rtn", *(values[one] for one in inputs[2:])]
    session = new_session()
    status, answer = post(
        f"{app.url}/gradio_api/queue/join", {"data": data, "fn_index": number, "session_hash": session}
    )
    assert status == 200, answer
    stream = events(app.url, session)
    prepared = 0
    for message in stream:
        assert message["msg"] != "process_completed", message
        prepared += prepared > 0 or "Preparing" in json.dumps(message)
        if prepared == 5:  # words about how far it is: a thread is at it
            return stream
    raise AssertionError("It never began to learn.")


def _target(config: dict[str, Any], dependency: dict[str, Any]) -> str | None:
    """The `elem_id` of the component that sets an event off."""
    ids = [one for one, _ in dependency["targets"]]
    return next((c["props"].get("elem_id") for c in config["components"] if c["id"] in ids), None)


_known: dict[str, dict[str, int]] = {}


def _numbers(url: str) -> dict[str, int]:
    """Name of every public endpoint -> its number."""
    if url not in _known:
        with urllib.request.urlopen(f"{url}/config", timeout=60) as answer:
            asked = [one for one in json.load(answer)["dependencies"] if one["api_name"]]
        _known[url] = {one["api_name"]: one["id"] for one in asked}
    return _known[url]
