"""One run at a time on a workspace.

On a disk the lock is one of the operating system, which ends with its process: a killed run leaves
no stale lock. In Cloud Storage it is an object, written with generation preconditions and renewed
by a thread; a run that ended without deleting it, or that renews it no more, has lost it.
"""

import errno
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NoReturn

import fasteners
import psutil

from transforms.errors import InputError
from transforms.storage import cloud_storage, files
from transforms.storage.manifest import parse

log = logging.getLogger("interest-explorer")

LOCK = ".lock"
RENEW_SECONDS = 60.0
LEASE_SECONDS = 300.0  # after which a lock that is not renewed is lost; clocks may differ by less
# Path -> holder in this process, from which a lock of the operating system does not keep itself.
_HELD: dict[str, dict[str, Any]] = {}
_NO_FOLDER = (errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR)
_HELD_LOCK = threading.Lock()


@contextmanager
def locked(workspace: str, pipeline: str) -> Iterator[None]:
    """Hold the lock of a workspace; InputError, which names the other run, if one holds it."""
    path = files.join(workspace, LOCK)
    holder = {
        "pipeline": pipeline,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "processes": _pid_namespace(),
        "started": _start_of(os.getpid()),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": uuid.uuid4().hex,
    }
    with (_locked_file if files.is_local(workspace) else _locked_object)(path, holder):
        yield


def _refuse(path: str, other: dict[str, Any] | None) -> NoReturn:
    said = {name: (other or {}).get(name, "?") for name in ("pipeline", "pid", "host", "since")}
    raise InputError(
        f"a run of {said['pipeline']} is on its way in {os.path.dirname(path)}: process "
        f"{said['pid']} on {said['host']}, since {said['since']}; wait for its end, or give "
        "another --workspace"
    )


def _start_of(pid: int) -> float | None:
    """Return when a process of this machine started, in seconds since boot; None if it is gone.

    Its time of day would change when the clock is set.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return round(process.create_time() - psutil.boot_time(), 2)
    except (psutil.NoSuchProcess, ValueError):  # a negative number
        return None


def _pid_namespace() -> str:
    """Name the namespace of process ids: on Linux those of a container are its own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


@contextmanager
def _locked_file(path: str, holder: dict[str, Any]) -> Iterator[None]:
    key = os.path.realpath(path)
    lock = fasteners.InterProcessLock(path)
    with _HELD_LOCK:  # closing another handle of the file would release the lock
        try:
            taken = key not in _HELD and lock.acquire(blocking=False)
        except threading.ThreadError as error:
            log.warning("no two runs may use the workspace at a time: %s", error)
            lock = None
        except OSError as error:
            if error.errno in _NO_FOLDER:
                raise InputError(
                    f"--workspace={os.path.dirname(path)} is no folder ({error.strerror}); give "
                    "another one"
                ) from error
            if error.errno != errno.EROFS:
                raise
            lock = None  # nothing can be written
        if lock is not None and not taken:
            _refuse(path, _HELD.get(key) or parse(files.read_if_there(path)))
        _HELD[key] = holder
    try:
        if lock is not None:
            lock.lockfile.truncate(0)
            lock.lockfile.write(json.dumps(holder))
            lock.lockfile.flush()
        yield
    finally:
        with _HELD_LOCK:
            del _HELD[key]
            if lock is not None:
                lock.release()


@contextmanager
def _locked_object(path: str, holder: dict[str, Any]) -> Iterator[None]:
    content = json.dumps(holder).encode()
    generation = _take(path, content, holder)
    ended = threading.Event()

    def renew() -> None:
        nonlocal generation
        while not ended.wait(RENEW_SECONDS):
            try:
                renewed = cloud_storage.write_if(path, content, generation)
            except Exception as error:  # the next time may succeed
                log.warning("the lock of the workspace was not renewed: %s", error)
                continue
            if renewed is None:
                log.error("%s: another run took the lock over", path)
                return
            generation = renewed

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        cloud_storage.delete_if(path, generation)


def _take(path: str, content: bytes, holder: dict[str, Any]) -> int:
    """Write the lock and return its generation; InputError if another run holds it."""
    generation = 0  # of an object that does not exist
    while True:
        if (written := cloud_storage.write_if(path, content, generation)) is not None:
            return written
        if (found := cloud_storage.read_versioned(path)) is None:  # released just now
            generation = 0
            continue
        other = parse(found.content) or {}
        if found.content == content:  # of a request whose answer was lost
            return found.generation
        if not _is_stale(other, found.updated, holder):
            _refuse(path, other)
        log.warning("the run of %s is gone; its lock is taken over", other.get("pipeline", "?"))
        generation = found.generation


def _is_stale(other: dict[str, Any], updated: float, here: dict[str, Any]) -> bool:
    """Say whether the holder of a lock, last renewed at `updated`, is gone."""
    if all(other.get(name) == here[name] for name in ("host", "processes")):
        pid = other.get("pid")
        return not isinstance(pid, int) or _start_of(pid) != other.get("started")
    return time.time() - updated > LEASE_SECONDS
