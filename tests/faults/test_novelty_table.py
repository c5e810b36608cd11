"""The novelty table under faults, with the real engine: the same bytes, or a clear error."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import jobs
from tests.pipelines.real import explore_flags, hashes, slice_of_movielens

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

ENGINE = "models.common.model_host"
WORKER = "apache_beam.runners.worker"
TWO_WORKERS = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
CLUSTERS = 24
JOBS: list[subprocess.Popen[str]] = []  # of the test that runs


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that is complete but for its table and what comes after it."""
    flags = explore_flags(*slice_of_movielens(tmp_path_factory.mktemp("input")))
    workspace = tmp_path_factory.mktemp("base")
    flags = [flag for flag in flags if not flag.startswith("--clusters")]
    by_stage = {
        "build_clusters": ("interactions", "items"),
        "mine_transitions": ("interactions", "examples_per_cluster"),
        "finetune": ("finetune",),
    }
    for stage, names in by_stage.items():
        own = [flag for flag in flags if flag.removeprefix("--").startswith(names)]
        sizes = [f"--clusters=3,{CLUSTERS}"] if stage == "build_clusters" else []
        assert jobs.end(jobs.start(stage, workspace, own + sizes))[0] == 0
    return workspace


@pytest.fixture
def workspace(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "workspace"))


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """Where the jobs of a test put temporary files; empty in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    yield folder
    for job in JOBS:  # of a test that failed
        for pid in jobs.members(job.pid):
            os.kill(pid, signal.SIGKILL)
    JOBS.clear()
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def undisturbed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    workspace = Path(shutil.copytree(base, tmp_path_factory.mktemp("undisturbed") / "workspace"))
    assert jobs.end(jobs.start("build_novelty_table", workspace, []))[0] == 0
    return table(workspace)


def table(workspace: Path) -> dict[str, str]:
    """Hash the files of the table."""
    return hashes(workspace / "novelty_table")


def committed(workspace: Path) -> int:
    return len(list((workspace / "unfinished" / "build_novelty_table").glob("committed/*.json")))


def build(workspace: Path, temporary: Path, *flags: str) -> subprocess.Popen[str]:
    JOBS.append(jobs.start("build_novelty_table", workspace, list(flags), temporary))
    return JOBS[-1]


def test_two_workers_share_an_engine_and_write_the_same(
    workspace: Path, temporary: Path, undisturbed: dict[str, str]
) -> None:
    job = build(workspace, temporary, *TWO_WORKERS)
    jobs.wait_for(job, lambda: committed(workspace) >= 3)
    assert len(jobs.find(job, WORKER)) == 2
    assert len(jobs.find(job, ENGINE)) == 1
    assert jobs.end(job)[0] == 0
    assert table(workspace) == undisturbed


def test_a_killed_engine_is_replaced(
    workspace: Path, temporary: Path, undisturbed: dict[str, str]
) -> None:
    job = build(workspace, temporary)
    jobs.wait_for(job, lambda: committed(workspace) >= 3)
    os.kill(jobs.find(job, ENGINE)[0], signal.SIGKILL)
    code, said = jobs.end(job)
    assert code == 0
    assert said.count("starting the engine") == 2
    assert table(workspace) == undisturbed


def test_a_hung_engine_is_replaced(
    workspace: Path, temporary: Path, undisturbed: dict[str, str]
) -> None:
    job = build(workspace, temporary, "--engine_timeout=60")
    jobs.wait_for(job, lambda: committed(workspace) >= 3)
    hung = jobs.find(job, ENGINE)[0]
    os.kill(hung, signal.SIGSTOP)
    code, said = jobs.end(job)
    assert code == 0
    assert "did not answer" in said
    assert table(workspace) == undisturbed


def test_after_a_killed_worker_the_same_command_ends_with_the_same_bytes(
    workspace: Path, temporary: Path, undisturbed: dict[str, str]
) -> None:
    job = build(workspace, temporary, *TWO_WORKERS)
    jobs.wait_for(job, lambda: committed(workspace) >= 3)
    os.kill(jobs.find(job, WORKER)[0], signal.SIGKILL)
    assert jobs.end(job)[0] != 0
    assert jobs.end(build(workspace, temporary, *TWO_WORKERS))[0] == 0
    assert table(workspace) == undisturbed


def test_killed_at_ten_random_moments_it_ends_with_the_same_bytes(
    workspace: Path, temporary: Path, undisturbed: dict[str, str]
) -> None:
    moments = random.Random(3)
    for _ in range(10):
        job = build(workspace, temporary)
        time.sleep(moments.uniform(0, 30))
        jobs.kill(job)
    assert jobs.end(build(workspace, temporary))[0] == 0
    assert table(workspace) == undisturbed


@pytest.mark.parametrize("damage", ["truncated", "altered"])
@pytest.mark.parametrize("complete", [True, False])
def test_a_damaged_row_is_noticed_and_made_again(
    workspace: Path, temporary: Path, undisturbed: dict[str, str], damage: str, complete: bool
) -> None:
    job = build(workspace, temporary)
    if complete:
        assert jobs.end(job)[0] == 0
    else:
        jobs.wait_for(job, lambda: committed(workspace) >= 3)
        jobs.kill(job)
    victim = min((workspace / "novelty_table").glob("*.parquet"))
    content = victim.read_bytes()
    middle = len(content) // 2
    victim.write_bytes(
        content[:middle]
        if damage == "truncated"
        else content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    )
    assert jobs.end(build(workspace, temporary))[0] == 0
    assert table(workspace) == undisturbed


def in_small_file_system(workspace: Path, kibibytes: int, script: str) -> tuple[int, str]:
    """Run a script with the table's folder on a file system of its own, and keep what it holds."""
    folder, kept = workspace / "novelty_table", workspace.parent / "kept"
    whole = f"""
        mkdir -p {folder} && mount -t tmpfs -o size={kibibytes}k none {folder}
        {script}
        code=$?; cp -r {folder} {kept}; exit $code
    """
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-c", whole],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    shutil.rmtree(folder)
    kept.rename(folder)
    return done.returncode, done.stderr


def test_a_full_disk_is_one_line_and_loses_nothing(
    workspace: Path, temporary: Path, undisturbed: dict[str, str]
) -> None:
    command = f"TMPDIR={temporary} {sys.executable} -m pipelines.build_novelty_table"
    code, said = in_small_file_system(workspace, 48, f"{command} --workspace={workspace}")
    assert code == 1
    assert said.splitlines()[-1].startswith("error: No space left on device")
    assert "Traceback" not in said
    assert not list((workspace / "novelty_table").glob("*unfinished*"))
    before = committed(workspace)
    assert 0 < before < CLUSTERS
    code, said = jobs.end(build(workspace, temporary))
    assert code == 0
    assert table(workspace) == undisturbed


def test_a_folder_that_turns_read_only_is_one_line_and_loses_nothing(
    workspace: Path, temporary: Path, undisturbed: dict[str, str]
) -> None:
    folder, notes = workspace / "novelty_table", workspace / "unfinished" / "build_novelty_table"
    code, said = in_small_file_system(
        workspace,
        10_000,
        f"""
        (until [ "$(ls {notes}/committed | wc -l)" -ge 3 ]; do sleep 0.02; done
         mount -o remount,ro {folder}) 2>/dev/null &
        TMPDIR={temporary} {sys.executable} -m pipelines.build_novelty_table --workspace={workspace}
        """,
    )
    assert code == 1
    assert said.splitlines()[-1].startswith("error: Read-only file system")
    assert 3 <= committed(workspace) < CLUSTERS
    assert jobs.end(build(workspace, temporary))[0] == 0
    assert table(workspace) == undisturbed


def test_a_model_without_one_of_its_files_is_refused(workspace: Path, temporary: Path) -> None:
    (workspace / "language_model" / "model.safetensors").unlink()
    code, said = jobs.end(build(workspace, temporary))
    assert code == 2
    assert "language_model/model.safetensors is missing or was altered; run" in said


def test_other_clusters_are_not_mixed_with_what_is_there(
    workspace: Path, temporary: Path, undisturbed: dict[str, str]
) -> None:
    job = build(workspace, temporary)
    jobs.wait_for(job, lambda: committed(workspace) >= 3)
    jobs.kill(job)
    before = table(workspace)
    code, said = jobs.end(build(workspace, temporary, "--blocked_clusters=1"))
    assert code == 2
    assert "with other --blocked_clusters: they cannot be mixed" in said
    assert table(workspace) == before
    assert jobs.end(build(workspace, temporary))[0] == 0
    assert table(workspace) == undisturbed
