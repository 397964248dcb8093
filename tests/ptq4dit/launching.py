"""Commands in several processes, as `torchrun` starts them, but forked off one that has imported everything already.

Each of a dozen tests would wait for three times as many imports of torch and diffusers otherwise.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300  # seconds


@dataclass(frozen=True)
class Done:
    """How it ended and what it said, all processes together."""

    returncode: int
    stdout: str
    stderr: str


class Launcher:
    """A process that forks: `launch(2, "info")` is `torchrun --nproc-per-node 2 -m ptq4dit info`."""

    def __enter__(self) -> "Launcher":
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.ptq4dit.launching"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, cwd=ROOT, env=env, **pipes)
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate(timeout=30)

    def __call__(self, count: int, *command: object, script: Path | None = None, patient: bool = False) -> Done:
        """The command in `count` processes; `script` is run in place of `-m ptq4dit`.

        `patient` waits for all of them to end by themselves where others are ended as one fails.
        """
        given = {"count": count, "command": [*map(str, command)], "script": script and str(script)}
        asked = given | {"patient": patient}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Done(**json.loads(self._process.stdout.readline()))


def serve() -> None:
    """Fork what is asked for, line by line, until there is nothing more to read."""

    import ptq4dit.benchmark.run
    import ptq4dit.cli
    import ptq4dit.methods.registry
    import ptq4dit.sharing  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(_launch(**json.loads(line))), flush=True)


def _launch(count: int, command: list[str], script: str | None, patient: bool) -> dict[str, object]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        children = {}
        for rank in range(count):
            child = os.fork()
            if child == 0:
                _work(rank, count, port, command, script, out.fileno(), err.fileno())
            children[child] = rank
        ends = _ends(children, patient)
        out.seek(0)
        err.seek(0)
        return {"returncode": max(ends, key=abs), "stdout": out.read(), "stderr": err.read()}


def _ends(children: dict[int, int], patient: bool) -> list[int]:
    """Exit status of each; as one fails, the others are ended, unless they are given their time."""
    signal.alarm(PATIENCE)
    ends = []
    while children:
        child, status = os.wait()
        del children[child]
        ends.append(os.waitstatus_to_exitcode(status))
        if ends[-1] != 0 and not patient:
            for other in children:
                os.kill(other, signal.SIGTERM)
    signal.alarm(0)
    return ends


def _work(rank: int, count: int, port: int, command: list[str], script: str | None, out: int, err: int) -> None:
    """One of the processes, with what `torchrun` puts in its environment; does not return."""
    os.dup2(out, 1)
    os.dup2(err, 2)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()}, MASTER_ADDR="127.0.0.1")
    sys.argv = [script or "ptq4dit", *command]
    status = 1
    try:
        runpy.run_path(script, run_name="__main__") if script else runpy.run_module("ptq4dit", run_name="__main__")
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve()
