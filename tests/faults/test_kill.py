"""Real processes killed at bad moments: the same command again ends with the same bytes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests import contract
from tests.pipelines.real import PER_LABEL, TOP_N, explore_flags, hashes, slice_of_movielens

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]


def start(workspace: Path, flags: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipelines.explore", f"--workspace={workspace}", *flags]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def session_members(session: int) -> list[int]:
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


def kill_when(process: subprocess.Popen[bytes], moment: Callable[[], bool]) -> None:
    """Kill the job's own process at a moment; what it started must end by itself."""
    while not moment():
        assert process.poll() is None, "the job ended before the moment came"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for _ in range(600):
        if not session_members(process.pid):
            return
        time.sleep(0.1)
    pytest.fail(f"left behind: {session_members(process.pid)}")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return slice_of_movielens(tmp_path_factory.mktemp("input"))


@pytest.fixture(scope="module")
def flags(inputs: tuple[Path, Path]) -> list[str]:
    return explore_flags(*inputs)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> dict[str, str]:
    workspace = tmp_path_factory.mktemp("undisturbed")
    assert start(workspace, flags).wait() == 0
    return hashes(workspace)


def test_killed_again_and_again_it_ends_with_the_same_bytes(
    tmp_path: Path, inputs: tuple[Path, Path], flags: list[str], undisturbed: dict[str, str]
) -> None:
    moments: list[Callable[[], bool]] = [
        lambda: (tmp_path / "unfinished" / "build_clusters").exists(),
        lambda: any((tmp_path / "transitions").glob("counts/*.parquet")),
        lambda: any((tmp_path / "unfinished").glob("finetune/checkpoints/*/checkpoint-3")),
        lambda: len(list((tmp_path / "novelty_table").glob("*.parquet"))) >= 3,
        lambda: any((tmp_path / "unfinished").glob("train_retrieval/checkpoints/*/*")),
        lambda: (tmp_path / "unfinished" / "recommend" / "plan.json").exists(),
    ]
    for moment in moments:
        kill_when(start(tmp_path, flags), moment)
    assert start(tmp_path, flags).wait() == 0
    assert hashes(tmp_path) == undisturbed
    contract.check_workspace(tmp_path, pq.read_table(inputs[0]), PER_LABEL, TOP_N)
