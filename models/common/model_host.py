"""The child process of `models.common.model_process`: it makes an object and calls its methods."""

import contextlib
import errno
import faulthandler
import importlib
import json
import os
import pickle
import queue
import select
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

BEAT_SECONDS = 1.0
MEET_SECONDS = 60.0  # a child and a client wait this long for each other
_MOST_CLIENTS = 256  # each takes a thread and two of the 1,024 files that a process may have open


def remove_scratch(pid: int) -> None:
    """Remove the temporary files of a child: vLLM leaves some behind."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_scratch_prefix(pid)}*"):
        with contextlib.suppress(FileNotFoundError):
            if folder.lstat().st_uid == os.geteuid():
                shutil.rmtree(folder, ignore_errors=True)


def _scratch_prefix(pid: int) -> str:
    return f"interest-explorer-{pid}-"


def peer(line: socket.socket) -> tuple[int, int]:
    """Return the process and the user at the other end of a connection; 0 for another container."""
    found = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, user, _ = struct.unpack("3i", found)
    return pid, user


def limit_waiting(line: socket.socket, seconds: float) -> None:
    """Let sending and receiving fail after some time; 0 is no limit."""
    limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        line.setsockopt(socket.SOL_SOCKET, option, limit)


@dataclass
class _Job:
    """A requested call."""

    connection: Connection
    message: bytes
    answer: bytes = b""
    begun: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)


_Jobs = queue.SimpleQueue[_Job]


def _watch(listener: socket.socket, key: bytes, jobs: _Jobs, scratch: str) -> None:
    """Accept clients; end the process, even in a call, when the last client is gone."""
    events = select.poll()
    events.register(listener, select.POLLIN)
    clients: dict[int, socket.socket] = {}
    try:
        deadline = time.monotonic() + MEET_SECONDS
        while ready := events.poll(
            None if clients else max(0, deadline - time.monotonic()) * 1_000
        ):
            gone = [clients.pop(number) for number, _ in ready if number in clients]
            if listener.fileno() in dict(ready):
                client, _ = listener.accept()
                if peer(client)[1] != os.geteuid() or len(clients) == _MOST_CLIENTS:
                    client.close()
                else:
                    clients[client.fileno()] = client
                    events.register(client, select.POLLRDHUP)
                    threading.Thread(target=_serve, args=(client, key, jobs), daemon=True).start()
            if gone and not clients:
                break
            for client in gone:
                events.unregister(client)
                with client, contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)  # its thread has a copy
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(0)


def _serve(client: socket.socket, key: bytes, jobs: _Jobs) -> None:
    """Pass a client's calls to the thread that makes them, and return the answers."""
    with contextlib.suppress(EOFError, OSError, AuthenticationError, AssertionError):
        connection = Connection(os.dup(client.fileno()))
        limit_waiting(client, MEET_SECONDS)  # else one that says nothing keeps the process alive
        deliver_challenge(connection, key)
        answer_challenge(connection, key)
        limit_waiting(client, 0)
        while True:
            job = _Job(connection, connection.recv_bytes())
            jobs.put(job)
            while not job.begun.wait(BEAT_SECONDS):
                connection.send_bytes(b"")
            job.done.wait()
            connection.send_bytes(job.answer)
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


def _work(jobs: _Jobs, timeout: float) -> None:
    """Make the object, which each client requests first, and the calls."""
    hosted: Any = None
    failure: BaseException | None = None
    while True:
        job = jobs.get()
        try:
            job.connection.send_bytes(b"")  # in this thread: a call may hold the interpreter
        except OSError:
            continue  # the client is gone
        job.begun.set()
        # Prints where a call hangs and ends the process, even if the call holds the interpreter.
        faulthandler.dump_traceback_later(timeout + BEAT_SECONDS, exit=True, file=2)
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
        listener.bind(address)  # before the object is made: later clients wait for it
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return  # another was first
        raise
    listener.listen(128)
    scratch = tempfile.mkdtemp(prefix=_scratch_prefix(os.getpid()))
    os.environ["TMPDIR"] = tempfile.tempdir = scratch
    jobs: _Jobs = queue.SimpleQueue()
    watched = (listener, bytes.fromhex(key), jobs, scratch)
    threading.Thread(target=_watch, args=watched, daemon=True).start()
    _work(jobs, timeout)


if __name__ == "__main__":
    _host()
