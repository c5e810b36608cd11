"""A method in a child process; when it ends, no process of the child's process group is left.

Some methods start servers that outlive them. All of them stay in the process group of the child.
The benchmark kills the group at the end or when it is interrupted. If the benchmark itself is
killed, a guard kills the group.
"""

import importlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from benchmarks.common.processes import live_members
from models.common.model_process import ModelProcess

_END_SECONDS = 30.0
_HOURS = 12  # limit for a call, also for more pairs than the default


class Host:
    """Holds the method in the child process, and a guard over the group that the child leads."""

    def __init__(self) -> None:
        # The guard's input ends when this process ends, even if the benchmark is killed with it.
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
        """Call a method of the hosted object."""
        return getattr(self._hosted, method)(*arguments)


@contextmanager
def hosted(
    factory: str, arguments: dict[str, Any], environment: dict[str, str]
) -> Iterator[Callable[..., Any]]:
    """Host `module:factory(**arguments)` until the block ends.

    It yields a function that takes the name of a method and its arguments. RuntimeError if the
    factory fails, or if a process of the group does not end.
    """
    process = ModelProcess(f"{__name__}:Host", {}, environment, timeout=_HOURS * 3600.0)
    group = process.call("group")
    try:
        process.call("start", factory, arguments)
        yield partial(process.call, "call")
    finally:
        with suppress(ProcessLookupError):  # the group has ended
            os.killpg(group, signal.SIGKILL)
        process.close()
        _await_end(group)


def _await_end(group: int) -> None:
    """Wait until the memory and the cores of a killed group are free."""
    deadline = time.monotonic() + _END_SECONDS
    while members := live_members(os.getpgid, group):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{members} do not end; kill them before the next run")
        time.sleep(0.1)
