"""What a stranger's file may do to whoever reads it: one sentence, soon, and hardly any memory."""

import json
import resource
import time

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

SECONDS, KILOBYTES = 2, 400_000


def refused(call):
    """The sentence with which a call refuses, within two seconds of work and 400 MB."""
    begun, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"^Expected ") as caught:
        call()
    assert time.process_time() - begun < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < KILOBYTES
    said = str(caught.value)
    assert "\n" not in said and len(said) < 500, said
    return said


def edit_json(path, change):
    """Rewrite a JSON file by a function that changes its content, or gives another one."""
    content = json.loads(path.read_text())
    other = change(content)
    path.write_text(json.dumps(content if other is None else other))


def edit_tensors(path, tensors=None, metadata=None, without=()):
    """Rewrite a safetensors file; metadata of None are taken out."""
    with safe_open(path, "pt") as file:
        held, said = {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    held |= tensors or {}
    said |= metadata or {}
    save_file(
        {name: value for name, value in held.items() if name not in without},
        path,
        {name: value for name, value in said.items() if value is not None},
    )
