"""Two runs on one workspace at a time, as processes: one of them, or a clear error."""

from pathlib import Path

import pytest

from pipelines.launch.workspace import Workspace
from tests.faults import jobs
from tests.pipelines import small

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

TRIALS = 8


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    items = small.write(folder / "items.parquet", small.items())
    log = small.write(folder / "log.parquet", small.interactions())
    assert small.build(folder / "workspace", items, log) == 0
    return folder


@pytest.mark.parametrize("trial", range(TRIALS))
def test_of_two_runs_one_ends_and_the_workspace_is_whole(shop: Path, trial: int) -> None:
    """Shards, seeds and the order of starts differ, so that a mix would be seen."""
    workspace = shop / "workspace"
    flags = [f"--interactions={shop / 'log.parquet'}"]
    pair = [
        jobs.start(
            "mine_transitions",
            workspace,
            [*flags, f"--seed={2 * trial + number}", f"--output_shards={1 + number}"],
        )
        for number in range(2)
    ]
    ended = [(job.communicate()[1], job.returncode) for job in pair]
    codes = [code for _, code in ended]
    assert 0 in codes
    for said, code in ended:
        if code:
            assert code == 2
            assert "a run of mine_transitions is on its way in" in said.splitlines()[-1]
    Workspace(str(workspace)).verify("transitions")
    ran = {2 * trial + number for number, code in enumerate(codes) if code == 0}
    assert small.manifest(workspace, "transitions")["flags"]["seed"] in ran
