"""An object in a process of its own, for one process or for all processes of a job on a machine.

Beam's `MultiProcessShared(spawn_process=True)` notices no hang, ends with the worker that started
it, leaves the children of an engine behind, and serves anybody who can reach its port. This module
stops a hung object, keeps it until its last client is gone, and ends all that it started.

- A client connects to an abstract socket (Linux only). Its address follows from a secret and from
  the factory and its arguments. If nobody listens there, the client starts a child process. The
  kernel gives an address to one process: of several children one stays.
- The child ends when its last client is gone, whoever started it. The kernel disconnects a killed
  client and removes an abstract socket with its process.
- One thread of the child makes the object and all calls. A client that waits for its turn hears
  from the child each second. A call then has `timeout` seconds, after which the child ends itself.
  A child that is silent for longer is stopped or frozen, and the client kills it.
"""

import contextlib
import hashlib
import json
import os
import pickle
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import IO, Any

from models.common.model_host import (
    BEAT_SECONDS,
    MEET_SECONDS,
    limit_waiting,
    peer,
    remove_scratch,
)

_SHOWN_OUTPUT = 4_000  # characters of the child's output in an error
_GRACE_SECONDS = 10.0
_LIVE: "weakref.WeakSet[ModelProcess]" = weakref.WeakSet()


class ModelProcessLost(RuntimeError):  # noqa: N818  (says what happened)
    """The child ended, or did not answer and was killed: a new one may succeed."""


def end_model_processes() -> None:
    """Disconnect this process from all its children."""
    for child in list(_LIVE):
        child.close()


class ModelProcess:
    """A client of the child process that made `module.factory(**arguments)`.

    `close()` disconnects and gives up the calls of other threads.

    Parameters
    ----------
    factory
        "module:name" of what makes the object.
    arguments
        Picklable; equal arguments have equal `repr`.
    environment
        Variables of the child, on top of those of this process, if this process starts it.
    shared_as
        A random secret. All processes in this network namespace with the same secret, factory and
        arguments share a child. None: nobody else uses it.
    timeout
        Seconds that the factory may take, and a call after the child began it.

    Raises
    ------
    ValueError, RuntimeError
        As the factory raises.
    ModelProcessLost
        If the child ends or does not answer.
    """

    def __init__(
        self,
        factory: str,
        arguments: dict[str, Any],
        environment: dict[str, str],
        shared_as: str | None = None,
        timeout: float = 1_800.0,
    ) -> None:
        secret = secrets.token_hex() if shared_as is None else shared_as
        identity = hashlib.sha256(repr((secret, factory, arguments)).encode()).hexdigest()
        self._address = f"\0interest-explorer-{identity}"
        self._timeout = timeout
        self._lock = threading.Lock()
        self._lost = ""
        self._child: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (for later)
        try:
            self._join(hashlib.sha256(b"key" + secret.encode()).digest(), environment)
        except BaseException:
            self._line.close()
            self._output.close()
            raise
        self.close = weakref.finalize(
            self, _leave, self._line, self._address, self._pid, self._output
        )
        _LIVE.add(self)
        try:
            self._exchange((factory, arguments))
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the object; its ValueError or RuntimeError is raised here.

        Raises ModelProcessLost if the child ended or does not answer, in this call or in an
        earlier one.
        """
        return self._exchange((method, arguments))

    def _join(self, key: bytes, environment: dict[str, str]) -> None:
        """Connect to the child; start one where there is none."""
        deadline = time.monotonic() + MEET_SECONDS
        silence = self._timeout + 3 * BEAT_SECONDS  # longer than the child allows itself
        while True:
            self._line, self._pid = socket.socket(socket.AF_UNIX), 0
            self._line.settimeout(None)  # Beam sets a default timeout when it reads gs://
            limit_waiting(self._line, silence)
            try:
                self._line.connect(self._address)
                self._pid, user = peer(self._line)
                if user != os.geteuid():
                    raise PermissionError(f"{self._address[1:]} is taken by user {user}; end that")
                self._connection = Connection(os.dup(self._line.fileno()))
                answer_challenge(self._connection, key)
                deliver_challenge(self._connection, key)
                break
            except BlockingIOError:
                _kill(self._pid)
                end = f"let nobody in for {silence:.0f} s"
                raise ModelProcessLost(self._describe(end)) from None
            except (ConnectionError, EOFError):  # nobody listens, or the child is about to end
                self._line.close()
            code = 0 if self._child is None else self._child.returncode
            if code or time.monotonic() > deadline:
                if self._child is not None:
                    self._child.kill()
                raise ModelProcessLost(self._describe("did not start"))
            if code == 0:  # none was started, or the first one is gone
                self._start(key, environment)
            time.sleep(0.02)
        if self._child is not None and self._child.pid != self._pid:  # another was first
            self._child.kill()
            self._child = None

    def _start(self, key: bytes, environment: dict[str, str]) -> None:
        self._child = child = subprocess.Popen(
            [sys.executable, "-u", "-X", "faulthandler", "-m", "models.common.model_host"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
            stdin=subprocess.PIPE,  # others can read command lines and environments
            stdout=self._output,
            stderr=self._output,
            process_group=0,  # a signal to a worker's group does not reach the child
        )
        threading.Thread(target=child.wait, daemon=True).start()  # no zombie
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError), child.stdin:
            child.stdin.write(json.dumps([self._address, key.hex(), self._timeout]).encode())

    def _exchange(self, message: object) -> Any:
        content = pickle.dumps(message)
        with self._lock:
            if self._lost:
                raise ModelProcessLost(self._lost)
            heard = time.monotonic()
            try:
                self._connection.send_bytes(content)
                while not (answer := self._connection.recv_bytes()):
                    heard = time.monotonic()
            except (EOFError, OSError):
                raise self._lose(time.monotonic() - heard) from None
            except BaseException:  # Ctrl-C: the next call would read this answer
                self.close()
                raise
        error, result = pickle.loads(answer)
        if error is not None:
            raise error
        return result

    def _lose(self, silence: float) -> RuntimeError:
        if not self.close.alive:  # closed by this process: nobody should start another
            return RuntimeError(f"the process {self._pid} that hosts the model was closed")
        end = "ended"
        if silence >= self._timeout:
            _kill(self._pid)
            end = f"did not answer for {silence:.0f} s and ended"
        self._lost = self._describe(end)
        _kill(self._pid)  # what it started, and its files
        self.close()
        return ModelProcessLost(self._lost)

    def _describe(self, end: str) -> str:
        if self._child is None:
            return (
                f"the process {self._pid} that hosts the model {end}; "
                "see the log of the worker that started it"
            )
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_GRACE_SECONDS)
        self._output.seek(0)
        said = self._output.read().decode(errors="replace")[-_SHOWN_OUTPUT:]
        return (
            f"the process {self._child.pid} that hosts the model {end} "
            f"with {self._child.returncode}; its last output: {said}"
        )


def _kill(pid: int) -> None:
    """Kill the process group of a child and remove its temporary files."""
    if pid > 1:  # 0: the child is in another container
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        remove_scratch(pid)


def _leave(line: socket.socket, address: str, pid: int, output: IO[bytes]) -> None:
    """Disconnect, and kill a child that does not react and has no other client."""
    with line, output, contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_WR)
        closed = select.poll()
        closed.register(line, 0)  # that the other end has hung up
        if not closed.poll(_GRACE_SECONDS * 1_000):
            import psutil

            # The child has one listening socket and two descriptors of each connection.
            sockets = psutil.net_connections("unix")
            if sum(each.laddr == f"@{address[1:]}" for each in sockets) <= 3:
                _kill(pid)
