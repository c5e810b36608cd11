"""A method under measurement in a child process, of whose process group nothing is left in the end.

Some methods start servers that outlive them. All that a method starts stays in the group of the
child, which is killed: by the benchmark when it is through, or interrupted, and else by a guard.
"""

import importlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from models.common.model_process import ModelProcess

_END_SECONDS = 30.0
_HOURS = 12  # that a call may take: more pairs than the default are welcome


class Host:
    """What the child process holds: the method, and a guard over the group that the child leads."""

    def __init__(self) -> None:
        # Its input ends when this process does, also where both were killed without a word.
        self._guard = subprocess.Popen(
            ["sh", "-c", 'cat; kill -s KILL -- "-$0"', str(self.group())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._hosted: Any = None

    def group(self) -> int:
        """Return the id of the process group."""
        return os.getpgrp()

    def start(self, factory: str, arguments: dict[str, Any]) -> None:
        """Make `module:factory(**arguments)`."""
        module, name = factory.split(":")
        self._hosted = getattr(importlib.import_module(module), name)(**arguments)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of what was made."""
        return getattr(self._hosted, method)(*arguments)


@contextmanager
def hosted(
    factory: str, arguments: dict[str, Any], environment: dict[str, str]
) -> Iterator[Callable[..., Any]]:
    """Host `module:factory(**arguments)` until the block ends; then no process of it is left.

    Yields
    ------
    (name of a method, its arguments) -> what it returns.

    Raises
    ------
    RuntimeError
        If the factory fails, or a process of the group can't be ended.
    """
    process = ModelProcess("benchmarks.hosting:Host", {}, environment, timeout=_HOURS * 3600.0)
    group = process.call("group")
    try:
        process.call("start", factory, arguments)
        yield partial(process.call, "call")
    finally:
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(group, signal.SIGKILL)
        process.close()
        _await_end(group)


def _await_end(group: int) -> None:
    """Wait until the memory and the cores of a killed group are free."""
    deadline = time.monotonic() + _END_SECONDS
    while members := _members(group):
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes {members} do not end; kill them before the next run")
        time.sleep(0.1)


def _members(group: int) -> list[int]:
    """Return the processes of a group, but for those that only wait to be reaped."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it is gone
            # After the name, which may hold anything: state, parent, group.
            state, _, of_group, *_ = stat.read_text().rpartition(")")[2].split()
            if int(of_group) == group and state != "Z":
                members.append(int(stat.parent.name))
    return members
