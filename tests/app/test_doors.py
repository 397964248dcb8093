"""What nobody needs is not let in: files, large bodies, unknown routes; nothing of it reaches the disk."""

import http.client
import json
import os
import socket
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from app.server.doors import LARGEST
from tests.load.server import ask, new_session, post

pytestmark = pytest.mark.alone

AT_ONCE = 2.0  # seconds
MEGABYTE = 1 << 20


def connection(app):
    where = urlsplit(app.url)
    return http.client.HTTPConnection(where.hostname, where.port, timeout=30)


@pytest.mark.parametrize(
    "path", ["upload", "upload?upload_id=1", "process_recording", "component_server", "queue/join"]
)
def test_a_large_file_is_refused_at_once_and_never_written(running, path):
    before = running.written()
    head = (
        f"POST /gradio_api/{path} HTTP/1.1\r\nHost: here\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        f"Content-Length: {512 * MEGABYTE}\r\n\r\n--x\r\n"
        'Content-Disposition: form-data; name="files"; filename="a.bin"\r\n\r\n'
    )
    where, begun, sent = urlsplit(running.url), time.monotonic(), 0
    with socket.create_connection((where.hostname, where.port), timeout=30) as line:
        line.sendall(head.encode())
        answer = line.recv(4096).decode()
        assert time.monotonic() - begun < AT_ONCE
        try:
            while sent < 64 * MEGABYTE:
                sent += line.send(bytes(MEGABYTE))
        except OSError:
            pass  # the server has hung up
    assert answer.split()[1] in ("404", "405", "413", "415"), answer
    assert sent < 64 * MEGABYTE
    assert running.written() == before


@pytest.mark.parametrize("path", ["queue/join", "call/layers", "run/layers", "component_server", "cancel", "upload"])
def test_a_body_without_a_length_is_cut_off(running, path):
    line, sent = connection(running), 0

    def parts():
        nonlocal sent
        for _ in range(64):
            sent += MEGABYTE
            yield b" " * MEGABYTE

    begun = time.monotonic()
    try:
        line.request("POST", f"/gradio_api/{path}", parts(), {"Content-Type": "application/json"}, encode_chunked=True)
        status = line.getresponse().status
    except OSError:
        status = 413  # hung up before all of it was sent
    assert status in (404, 405, 413) and time.monotonic() - begun < AT_ONCE * 3
    assert sent <= 32 * MEGABYTE


@pytest.mark.parametrize("path", ["queue/join", "call/layers", "component_server", "cancel", "reset"])
def test_a_large_question_is_refused(running, path):
    body = json.dumps({"data": ["x" * (LARGEST + 1)], "fn_index": 0, "session_hash": new_session()}).encode()
    begun = time.monotonic()
    status, answer = post(f"{running.url}/gradio_api/{path}", body)
    assert (status, answer) == (413, {"detail": f"Expected at most {LARGEST} bytes."})
    assert time.monotonic() - begun < AT_ONCE


@pytest.mark.parametrize(
    "path", ["upload", "vibe-edit", "vibe-code", "run-history/connect", "dev/reload", "login", "x"]
)
def test_what_nothing_uses_is_shut(running, path):
    status, answer = post(f"{running.url}/gradio_api/{path}", {})
    assert status in (404, 405) and "here" in answer["detail"]


@pytest.mark.parametrize(
    "path", ["deep_link?session_hash=abc", "proxy=https://example.org/", "upload_progress?upload_id=a"]
)
def test_what_writes_or_fetches_is_shut(running, path):
    ask(running.url, "layers", session="abc")
    before = running.written()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{running.url}/gradio_api/{path}", timeout=30)
    assert running.written() == before


def test_many_pictures_leave_a_bounded_number_of_files(explored_model, monkeypatch):
    import numpy as np

    from app.tabs import compare_api

    monkeypatch.setattr(compare_api, "KEPT_PICTURES", 3)
    monkeypatch.setattr(compare_api, "_kept", {})
    random = np.random.default_rng(0)
    paths = [compare_api._file(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))["path"] for _ in range(5)]
    assert [os.path.exists(path) for path in paths] == [False, False, True, True, True]
