"""The pipeline recommend on the small shop, with a retriever trained in a moment."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines import recommend
from tests import contract
from tests.pipelines import small
from transforms.storage.manifest import read_manifest

pytestmark = pytest.mark.usefixtures("model_in_process")


# The shop was built with --min_rating=2.
ENGAGEMENTS = [row for row in small.interactions() if row["rating"] >= 2]


def recommended(shop: Path, workspace: Path, *flags: str) -> dict[str, dict[str, Any]]:
    """Run on a copy of the workspace and return the rows by user."""
    if not workspace.exists():
        shutil.copytree(shop / "workspace", workspace)
    given = [f"--workspace={workspace}", "--output_shards=2", *flags]
    assert recommend.STAGE.main(given) == 0
    return {row["user_id"]: row for row in contract.read(workspace / "recommendations")}


@pytest.fixture(scope="module")
def first(model_in_process: None, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("first") / "workspace"
    recommended(shop, workspace, "--pair_choice=sampled", "--seed=7")
    return workspace


def test_every_promise_is_kept_and_every_user_counted(first: Path) -> None:
    contract.check_recommendations(first, ENGAGEMENTS)
    manifest = small.manifest(first, "recommendations")
    written = manifest["rows"]["written"]
    assert 0 < written < small.USERS  # who knows all clusters has no row
    without = manifest["figures"]["users_without_novel"]
    assert manifest["figures"]["users"] == small.USERS == written + without


def test_sampled_interests_say_how_likely_they_were(first: Path) -> None:
    propensities = {row["propensity"] for row in contract.read(first / "recommendations")}
    assert min(propensities) < 1
    assert len(propensities) > 3


@pytest.mark.parametrize("flags", [(), ("--pair_choice=pooled",)])
def test_recent_and_pooled_interests_are_certain(
    shop: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    rows = recommended(shop, tmp_path / "w", *flags)
    contract.check_recommendations(tmp_path / "w", ENGAGEMENTS)
    assert {row["propensity"] for row in rows.values()} == {1}


def test_another_seed_explores_something_else(shop: Path, first: Path, tmp_path: Path) -> None:
    today = {row["user_id"]: row for row in contract.read(first / "recommendations")}
    tomorrow = recommended(shop, tmp_path / "w", "--pair_choice=sampled", "--seed=8")
    assert today.keys() == tomorrow.keys()
    moved = [user for user in today if today[user] != tomorrow[user]]
    assert 0 < len(moved) < len(today)


def assert_the_same(shop: Path, first: Path, workspace: Path, *flags: str) -> None:
    recommended(shop, workspace, "--pair_choice=sampled", "--seed=7", *flags)
    again, before = (small.digests(at / "recommendations") for at in (workspace, first))
    assert again == before


def test_processes_give_the_same_bytes(shop: Path, first: Path, tmp_path: Path) -> None:
    processes = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    assert_the_same(shop, first, tmp_path / "w", *processes)


def test_the_same_log_given_anew_to_one_worker_gives_the_same_bytes(
    shop: Path, first: Path, tmp_path: Path
) -> None:
    log = f"--interactions={shop / 'log.parquet'}"
    assert_the_same(shop, first, tmp_path / "w", log, "--direct_num_workers=1")
    inputs = read_manifest(str(tmp_path / "w" / "recommendations"))["inputs"]
    assert "transitions" not in inputs


def test_retriever_of_other_clusters_is_refused(
    shop: Path, mined: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = shutil.copytree(shop / "workspace", tmp_path / "w")
    shutil.rmtree(workspace / "clusters")
    shutil.copytree(mined / "workspace" / "clusters", workspace / "clusters")
    assert recommend.STAGE.main([f"--workspace={workspace}"]) == 2
    said = capsys.readouterr().err
    assert "was built from other clusters than there are now" in said
    assert "python -m pipelines.mine_transitions" in said


def test_a_period_without_a_log_is_refused(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"--workspace={shop / 'workspace'}", "--since=2023-01-01"]
    assert recommend.STAGE.main(given) == 2
    assert "--since needs --interactions" in capsys.readouterr().err
    assert recommend.STAGE.main([*given, "--interactions="]) == 2
