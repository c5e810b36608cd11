"""Server processes that end with a `with` block, or with this process.

A server picks free ports, and prints its addresses as one line of JSON when it is ready. It ends
with its standard input, so that a killed test run leaves no server.
"""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

ROOT = Path(__file__).parents[1]
EMULATORS = ROOT / ".venv/emulators"
PROJECT = "test-proj"
_START_SECONDS = 120.0  # 3 on an idle machine


class ServerError(RuntimeError):
    """A server did not start; the message is its output."""


@contextmanager
def run(
    module: str, python: Path | str = sys.executable, **environment: str
) -> Iterator[dict[str, str]]:
    """Run `python -m module`, and yield the addresses that it announces.

    The environment is added to that of this process. The server calls `lifetime.announce`.
    """
    with TemporaryFile() as errors:
        server = subprocess.Popen(
            [python, "-m", module],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # a group of its own, with its children
        )
        with server:  # closes the pipes and waits
            try:
                line = _first_line(server.stdout)
                if not line:
                    errors.seek(0)
                    printed = errors.read().decode()[-4000:]
                    raise ServerError(f"{module} did not start: {printed}")
                yield json.loads(line)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(server.pid, signal.SIGKILL)


def _first_line(output: Any) -> bytes:
    """Return the first line of a server's output, or b"" if the server is late or ends."""
    ready, _, _ = select.select([output], [], [], _START_SECONDS)
    return output.readline() if ready else b""


def emulator_python() -> Path:
    """Return the Python of the emulators' environment."""
    python = EMULATORS / "bin/python"
    if not (EMULATORS / "installed").exists():
        raise ServerError("the emulators are not installed: make setup-emulators")
    return python


@contextmanager
def storage_server() -> Iterator[str]:
    """Run a Cloud Storage emulator and yield its URL, for STORAGE_EMULATOR_HOST."""
    module = "emulators.storage_server"
    with run(module, python=emulator_python()) as addresses:
        yield addresses["url"]


@contextmanager
def bigquery_server(storage_url: str) -> Iterator[tuple[str, str]]:
    """Run a BigQuery emulator that loads and extracts through a Cloud Storage emulator.

    Yields values for BIGQUERY_EMULATOR_HOST (a URL) and BIGQUERY_STORAGE_EMULATOR_HOST (host:port).
    """
    with (
        TemporaryDirectory() as home,
        run(
            "emulators.bigquery_server",
            python=emulator_python(),
            HOME=home,
            TMPDIR=home,
            STORAGE_EMULATOR_HOST=storage_url,
        ) as addresses,
    ):
        yield addresses["rest"], addresses["grpc"]
