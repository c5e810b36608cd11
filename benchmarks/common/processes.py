"""Processes of a benchmark: the time, memory and disk that they take, and which are alive."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.common.output import say

_SAMPLE_SECONDS = 0.5
_SECONDS_PER_LINE = 30.0


@dataclass(frozen=True)
class Usage:
    """Time and resources of a command."""

    seconds: float  # with start and imports
    memory_gib: float  # peak of the process and its descendants; shared pages count once
    disk_gib: float  # peak of the watched folder


def run_measured(command: Sequence[str], folder: Path) -> Usage:
    """Run a command that writes to a folder; memory and disk are sampled twice a second."""
    begun = said = time.monotonic()
    memory = disk = 0.0
    with subprocess.Popen(command, stdout=sys.stderr) as process:
        while not _ended(process):
            memory = max(memory, _memory_gib(process.pid))
            disk = max(disk, _disk_gib(folder))
            if time.monotonic() - said >= _SECONDS_PER_LINE:
                said = time.monotonic()
                say(f"{said - begun:.0f} s, {memory:.2f} GiB at most, {disk:.1f} GiB of disk")
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Usage(time.monotonic() - begun, memory, disk)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_SAMPLE_SECONDS)
    return process.returncode is not None


def _memory_gib(pid: int) -> float:
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
    return total / 2**30


def _disk_gib(folder: Path) -> float:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a temporary file
                total += 512 * os.stat(os.path.join(path, name)).st_blocks
    return total / 2**30


def peak_memory_gib() -> float:
    """Return the peak memory of this process.

    psutil knows no peak on Linux, and ru_maxrss may be that of the process that started this one.
    """
    (kib,) = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(kib) / 2**20


def live_members(group_of: Callable[[int], int], group: int) -> list[psutil.Process]:
    """Return the processes that run in a group (`os.getpgid`) or a session (`os.getsid`)."""
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if group_of(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members
