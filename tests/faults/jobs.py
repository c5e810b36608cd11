"""Jobs as processes of their own: started, killed, and looked at for what they leave behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

GONE_SECONDS = 60


def start(
    pipeline: str, workspace: Path, flags: list[str], temporary: Path | None = None
) -> subprocess.Popen[str]:
    """Start a pipeline in a session of its own; its temporary files go to a folder."""
    environment = {**os.environ, **({"TMPDIR": str(temporary)} if temporary else {})}
    return subprocess.Popen(
        [sys.executable, "-m", f"pipelines.{pipeline}", f"--workspace={workspace}", *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment,
        text=True,
    )


def members(session: int) -> list[int]:
    """List the live processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def command(pid: int) -> str:
    """Return the command line of a process, empty for one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def find(job: subprocess.Popen[str], part: str) -> list[int]:
    """List the processes of a job whose command line contains a text."""
    return [
        pid
        for pid in members(job.pid)
        if command(pid).startswith(sys.executable) and part in command(pid)
    ]


def wait_for(job: subprocess.Popen[str], moment: Callable[[], bool]) -> None:
    """Wait for a moment of a running job."""
    while not moment():
        assert job.poll() is None, f"the job ended before the moment came: {end(job)[1]}"
        time.sleep(0.02)


def end(job: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a job; return its exit code and what it said. Nothing may be left of it."""
    said = job.communicate()[1]
    assert_nothing_left(job)
    return job.returncode, said


def kill(job: subprocess.Popen[str]) -> None:
    """Kill a job's own process; what it started must end by itself."""
    os.kill(job.pid, signal.SIGKILL)
    job.communicate()
    assert_nothing_left(job)


def assert_nothing_left(job: subprocess.Popen[str]) -> None:
    """Check that no process of a job and no socket is left."""
    deadline = time.monotonic() + GONE_SECONDS
    while left := [*members(job.pid), *sockets()]:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.1)


def sockets() -> list[str]:
    """List the Unix sockets of the project's engines."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return [line for line in lines if "interest-explorer" in line]
