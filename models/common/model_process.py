"""An object in a process of its own: for one process, or for all of a job on this machine.

An engine needs libraries preloaded before its process starts, is too large to be there once per
worker, may hang, and must not outlive the job. So a child process hosts it, at a socket whose
address follows from a secret and from what the object is made of (Linux only):

- Who needs the object connects to that address, and starts a child if none is there. The kernel
  gives an address to one process: of children started at the same time one stays.
- The child belongs to who is connected, not to who started it, and ends when the last one is gone.
  The kernel disconnects a killed process and an abstract socket is no file: nothing is left behind.
- One thread makes the object and all calls. Who waits for a turn hears so each second, and when it
  has come; then the call has `timeout` seconds, after which the child ends itself. If it is silent
  for longer, it is stopped as a whole, and the client kills it.
"""

import contextlib
import errno
import faulthandler
import hashlib
import importlib
import io
import json
import os
import pickle
import queue
import secrets
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import IO, Any

_QUOTED = 4_000  # characters of the child's output that an error shows
_BEAT_SECONDS = 1.0
_GRACE_SECONDS = 10.0
_MEET_SECONDS = 60.0  # that a child and its first client wait for each other
_LIVE: "weakref.WeakSet[ModelProcess]" = weakref.WeakSet()


class ModelProcessLost(RuntimeError):  # noqa: N818  (says what happened)
    """The child ended, or did not answer and was killed: a new one may do better."""


def end_model_processes() -> None:
    """Leave all children of this process, whoever still refers to them."""
    for child in list(_LIVE):
        child.close()


class ModelProcess:
    """A client of the child process that made `module.factory(**arguments)`.

    `close()` leaves the child; what calls are under way in other threads are given up.

    Parameters
    ----------
    factory
        "module:name" of what makes the object.
    arguments
        Of the factory; picklable.
    environment
        Variables set for the child, where this process starts it, on top of this process's.
    shared_as
        A random secret. All processes of this machine (of this network namespace) that name the
        same secret, factory and arguments share a child. None: nobody else uses it.
    timeout
        Seconds for the factory, and for a call from when the child begins it.

    Raises
    ------
    ValueError, RuntimeError
        Whatever the factory raises.
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
        identity = hashlib.sha256(_structure((secret, factory, arguments))).hexdigest()
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
        """Call a method of the object and return what it returns.

        Raises
        ------
        ValueError, RuntimeError
            Whatever the method raises.
        ModelProcessLost
            If the child ended or does not answer: now, or in an earlier call.
        """
        return self._exchange((method, arguments))

    def _join(self, key: bytes, environment: dict[str, str]) -> None:
        """Connect to the child; start one where there is none."""
        deadline = time.monotonic() + _MEET_SECONDS
        silence = self._timeout + 3 * _BEAT_SECONDS  # more than the child allows itself
        limit = struct.pack("ll", int(silence), int(silence % 1 * 1e6))
        while True:
            self._line, self._pid = socket.socket(socket.AF_UNIX), 0
            self._line.settimeout(None)  # Beam gives all sockets one, once it reads gs://
            self._line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            self._line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            try:
                self._line.connect(self._address)
                peer = self._line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                self._pid, user, _ = struct.unpack("3i", peer)
                if user != os.geteuid():
                    raise PermissionError(f"{self._address[1:]} is taken by user {user}; end that")
                self._connection = Connection(os.dup(self._line.fileno()))
                answer_challenge(self._connection, key)
                deliver_challenge(self._connection, key)
                break
            except BlockingIOError:
                _kill(self._pid)
                raise ModelProcessLost(
                    self._epitaph(f"let nobody in for {silence:.0f} s")
                ) from None
            except (ConnectionError, EOFError):  # nobody is there, or about to end
                self._line.close()
            code = 0 if self._child is None else self._child.returncode
            if code or time.monotonic() > deadline:
                if self._child is not None:
                    self._child.kill()
                raise ModelProcessLost(self._epitaph("did not start"))
            if code == 0:  # none started, or another was first and is gone
                self._start(key, environment)
            time.sleep(0.02)
        if self._child is not None and self._child.pid != self._pid:  # another was first
            self._child.kill()
            self._child = None

    def _start(self, key: bytes, environment: dict[str, str]) -> None:
        self._child = child = subprocess.Popen(
            [sys.executable, "-u", "-X", "faulthandler", "-m", "models.common.model_process"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
            stdin=subprocess.PIPE,  # the secret is for nobody's eyes
            stdout=self._output,
            stderr=self._output,
            process_group=0,  # what is sent to the group of one worker is not for the child
        )
        threading.Thread(target=child.wait, daemon=True).start()  # no zombie, whenever it ends
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
            except BaseException:  # Ctrl-C: the next call would take this one's answer for its own
                self.close()
                raise
        error, result = pickle.loads(answer)
        if error is not None:
            raise error
        return result

    def _lose(self, silence: float) -> RuntimeError:
        if not self.close.alive:  # by us: nobody should start another
            return RuntimeError(f"the process {self._pid} that hosts the model was closed")
        end = "ended"
        if silence >= self._timeout:
            _kill(self._pid)
            end = f"did not answer for {silence:.0f} s and ended"
        self._lost = self._epitaph(end)
        _kill(self._pid)  # what it started, and its files
        self.close()
        return ModelProcessLost(self._lost)

    def _epitaph(self, end: str) -> str:
        if self._child is None:
            return f"the process {self._pid} that hosts the model {end}; who started it knows why"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_GRACE_SECONDS)
        self._output.seek(0)
        said = self._output.read().decode(errors="replace")[-_QUOTED:]
        return (
            f"the process {self._child.pid} that hosts the model {end} "
            f"with {self._child.returncode}; its last words: {said}"
        )


def _structure(value: object) -> bytes:
    """Pickle a value such that equal ones are equal bytes, also where one shares its parts."""
    content = io.BytesIO()
    pickler = pickle.Pickler(content)
    pickler.fast = True
    pickler.dump(value)
    return content.getvalue()


def _kill(pid: int) -> None:
    """Kill a child and what it started: it leads a process group."""
    if pid > 1:  # 0: in another container, whose processes have no number here
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        shutil.rmtree(_scratch(pid), ignore_errors=True)


def _scratch(pid: int) -> Path:
    """Return where a child puts temporary files: vLLM leaves some behind."""
    return Path(tempfile.gettempdir()) / f"interest-explorer-{pid}"


def _leave(line: socket.socket, address: str, pid: int, output: IO[bytes]) -> None:
    """Disconnect. A child that does not take note is killed, unless others are connected."""
    with line, output, contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_WR)
        noted = select.poll()
        noted.register(line, 0)  # only that the other end has hung up
        if not noted.poll(_GRACE_SECONDS * 1_000):
            # The kernel lists the listening socket, then one for each connection.
            sockets = Path("/proc/net/unix").read_text().split()
            if sockets.count(f"@{address[1:]}") <= 2:
                _kill(pid)


@dataclass
class _Job:
    """A call that a client asks for."""

    connection: Connection
    message: bytes
    answer: bytes = b""
    begun: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)


_Jobs = queue.SimpleQueue[_Job]


def _watch(listener: socket.socket, key: bytes, jobs: _Jobs, scratch: Path) -> None:
    """Let clients in; end the process when the last one is gone, whatever it is busy with."""
    events = select.poll()
    events.register(listener, select.POLLIN)
    clients: dict[int, socket.socket] = {}
    try:
        while ready := events.poll(None if clients else _MEET_SECONDS * 1_000):
            gone = [clients.pop(number) for number, _ in ready if number in clients]
            if listener.fileno() in dict(ready):
                client, _ = listener.accept()
                clients[client.fileno()] = client
                events.register(client, select.POLLRDHUP)
                threading.Thread(target=_serve, args=(client, key, jobs), daemon=True).start()
            if not clients:
                break
            for client in gone:
                events.unregister(client)
                with client, contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)  # the thread that serves it has a copy
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(0)


def _serve(client: socket.socket, key: bytes, jobs: _Jobs) -> None:
    """Hand a client's calls to the thread that makes them, and the answers back."""
    with contextlib.suppress(EOFError, OSError, AuthenticationError, AssertionError):
        connection = Connection(os.dup(client.fileno()))
        deliver_challenge(connection, key)
        answer_challenge(connection, key)
        while True:
            job = _Job(connection, connection.recv_bytes())
            jobs.put(job)
            while not job.begun.wait(_BEAT_SECONDS):
                connection.send_bytes(b"")
            job.done.wait()
            connection.send_bytes(job.answer)
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


def _work(jobs: _Jobs, timeout: float) -> None:
    """Make the object, which every client asks for first, and the calls."""
    hosted: Any = None
    failure: BaseException | None = None
    while True:
        job = jobs.get()
        try:
            job.connection.send_bytes(b"")  # here: once the call holds the interpreter, none can
        except OSError:
            continue  # who asked is gone
        job.begun.set()
        # A thread that needs no interpreter: it prints where the call hangs and ends the process.
        faulthandler.dump_traceback_later(timeout + _BEAT_SECONDS, exit=True, file=2)
        try:
            result = None
            name, arguments = pickle.loads(job.message)
            if ":" not in name:
                result = getattr(hosted, name)(*arguments)
            elif failure is not None:
                raise failure
            elif hosted is None:
                module, factory = name.split(":")
                hosted = getattr(importlib.import_module(module), factory)(**arguments)
            job.answer = pickle.dumps((None, result))
        except BaseException as error:
            traceback.print_exc()
            # What a factory does not take, the caller can mend.
            mendable = ValueError if hosted is not None else (ValueError, TypeError)
            failure = error if hosted is None else None
            plain = ValueError if isinstance(error, mendable) else RuntimeError
            job.answer = pickle.dumps((plain(f"{type(error).__name__}: {error}"), None))
        faulthandler.cancel_dump_traceback_later()
        job.done.set()


def _host() -> None:
    address, key, timeout = json.load(sys.stdin)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(address)  # before the object is made: who comes late waits for it
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return  # another was first
        raise
    listener.listen(128)
    scratch = _scratch(os.getpid())
    scratch.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
    jobs: _Jobs = queue.SimpleQueue()
    watched = (listener, bytes.fromhex(key), jobs, scratch)
    threading.Thread(target=_watch, args=watched, daemon=True).start()
    _work(jobs, timeout)


if __name__ == "__main__":
    _host()
