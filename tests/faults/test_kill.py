"""Real processes killed at bad moments: the same command again ends with the same bytes."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests import contract
from tests.faults import jobs
from tests.pipelines.real import PER_LABEL, TOP_N, explore_flags, hashes, slice_of_movielens

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]


def kill_when(job: subprocess.Popen[str], moment: Callable[[], bool]) -> None:
    jobs.wait_for(job, moment)
    jobs.kill(job)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return slice_of_movielens(tmp_path_factory.mktemp("input"))


@pytest.fixture(scope="module")
def flags(inputs: tuple[Path, Path]) -> list[str]:
    return explore_flags(*inputs)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> dict[str, str]:
    workspace = tmp_path_factory.mktemp("undisturbed")
    assert jobs.end(jobs.start("explore", workspace, flags))[0] == 0
    return hashes(workspace)


def test_killed_again_and_again_it_ends_with_the_same_bytes(
    tmp_path: Path, inputs: tuple[Path, Path], flags: list[str], undisturbed: dict[str, str]
) -> None:
    moments: list[Callable[[], bool]] = [
        lambda: (tmp_path / "unfinished" / "build_clusters").exists(),
        lambda: any((tmp_path / "transitions").glob("counts/*.parquet")),
        lambda: any((tmp_path / "unfinished").glob("finetune/checkpoints/*/checkpoint-2")),
        lambda: len(list((tmp_path / "novelty_table").glob("*.parquet"))) >= 3,
        lambda: any((tmp_path / "unfinished").glob("train_retrieval/checkpoints/*/*")),
        lambda: (tmp_path / "unfinished" / "evaluate" / "plan.json").exists(),
        lambda: (tmp_path / "unfinished" / "recommend" / "plan.json").exists(),
    ]
    for moment in moments:
        kill_when(jobs.start("explore", tmp_path, flags), moment)
    assert jobs.end(jobs.start("explore", tmp_path, flags))[0] == 0
    assert hashes(tmp_path) == undisturbed
    contract.check_workspace(tmp_path, pq.read_table(inputs[0]), PER_LABEL, TOP_N)
