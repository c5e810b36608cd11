"""Data after --train_until and data of test users change nothing that is learned."""

import datetime
from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.evaluation.policies.policy_names import TABLE
from pipelines import train_retrieval
from pipelines.launch.flags import parse
from pipelines.launch.workspace import Workspace
from tests.contract import read
from tests.pipelines import small
from tests.pipelines.small import Row
from tests.transforms.eager import run
from transforms.clusters.read_clusters import read_item_clusters
from transforms.evaluation.load_policies import PolicySources

CUT = small.START + 1000 * small.USERS // 2
CUT_FLAG = f"--train_until={datetime.datetime.fromtimestamp(CUT, datetime.UTC).isoformat()}"
MINE = ("--split_by=time", "--valid_share=0.3", "--test_share=0.2")


def changed(log: list[Row]) -> list[Row]:
    """Return a log with the same past, and another future: of the same users and of new ones."""
    rng = np.random.default_rng(5)
    ids = [item["item_id"] for item in small.items()]
    users = [f"customer {user}" for user in range(small.USERS)] + ["a new one", "another"]
    future = [
        {
            "user_id": user,
            "item_id": str(rng.choice(ids[:25])),  # another traffic too
            "timestamp": CUT + 60 * step,
            "rating": 4.0,
        }
        for user in users
        for step in range(12)
    ]
    return [*future, *(row for row in log if row["timestamp"] < CUT)]


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Workspaces of two logs with the same past, mined."""
    made = []
    log = small.interactions()
    for name, rows in (("one", log), ("other", changed(log))):
        folder = tmp_path_factory.mktemp(name)
        items = small.write(folder / "items.parquet", small.items())
        interactions = small.write(folder / "log.parquet", rows)
        assert small.build(folder / "w", items, interactions, CUT_FLAG) == 0
        assert small.mine(folder / "w", interactions, *MINE) == 0
        made.append(folder / "w")
    return made[0], made[1]


def test_clusters_are_of_the_past(workspaces: tuple[Path, Path]) -> None:
    one, other = (small.digests(workspace / "clusters") for workspace in workspaces)
    assert one == other
    assert {"clusters.parquet", "item_clusters/part-00000-of-00002.parquet"} <= one.keys()


@pytest.mark.parametrize("folder", ["counts", "examples/train"])
def test_what_is_trained_on_is_of_the_past(workspaces: tuple[Path, Path], folder: str) -> None:
    one, other = workspaces
    assert read(one / "transitions" / folder)
    assert small.digests(one / "transitions" / folder) == small.digests(
        other / "transitions" / folder
    )


@pytest.mark.parametrize("split", ["valid", "test"])
def test_what_is_asked_is_of_the_future(workspaces: tuple[Path, Path], split: str) -> None:
    one, other = (read(workspace / "transitions/examples" / split) for workspace in workspaces)
    assert one
    assert one != other


def test_rows_after_the_cut_are_read_and_used(workspaces: tuple[Path, Path]) -> None:
    rows = len(small.interactions())
    for stage, more in (("clusters", len(small.items())), ("transitions", 0)):
        counted = small.manifest(workspaces[0], stage)["rows"]
        assert (counted["read"], counted["used"]) == (rows + more, rows + more)


def test_users_kept_for_tests_change_nothing_that_is_trained_on(
    workspaces: tuple[Path, Path], tmp_path: Path
) -> None:
    splits = {row["user_id"]: row["split"] for row in read(workspaces[0] / "transitions/splits")}
    log = small.interactions()
    items = [row["item_id"] for row in log]
    others = [
        row if splits[row["user_id"]] == "train" else {**row, "item_id": item}
        for row, item in zip(log, reversed(items), strict=True)
    ]
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "clusters").symlink_to(workspaces[0] / "clusters")
    interactions = small.write(tmp_path / "log.parquet", others)
    assert small.mine(tmp_path / "w", interactions, *MINE) == 0
    for folder in ("counts", "examples/train"):
        assert small.digests(tmp_path / "w/transitions" / folder) == small.digests(
            workspaces[0] / "transitions" / folder
        )
    for split in ("valid", "test"):
        folder = f"transitions/examples/{split}"
        assert read(tmp_path / "w" / folder) != read(workspaces[0] / folder)


class Shards(beam.PTransform):
    """In place of the training: what it is given."""

    def __init__(self, **settings: object) -> None:
        super().__init__()

    def expand(
        self, inputs: tuple[beam.PCollection[str], beam.PCollection[pa.Table]]
    ) -> tuple[beam.PCollection[str], beam.PCollection[pa.Table]]:
        return inputs


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Return what tells the histories that the retriever of a workspace is trained on."""
    monkeypatch.setattr(train_retrieval, "TrainRetriever", Shards)

    def trained_on(workspace: Path) -> list[list[str]]:
        stage = train_retrieval.STAGE
        given, _ = parse(stage.parser(), stage.flags, [f"--workspace={workspace}"])
        paths = run(
            lambda pipeline: {
                "shards": train_retrieval.build(pipeline, given, Workspace(str(workspace)))[-1][0]
            }
        )["shards"]
        item_ids, _ = read_item_clusters(str(workspace / "clusters"), level=1)
        rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
        return sorted([item_ids[item].as_py() for item in row["items"]] for row in rows)

    return trained_on


def histories(log: list[Row]) -> list[list[str]]:
    users: dict[str, list[str]] = {}
    for row in log:
        users.setdefault(row["user_id"], []).append(row["item_id"])
    return sorted(users.values())


def test_the_retriever_is_trained_on_the_past(
    workspaces: tuple[Path, Path], trained_on: Callable[..., list[list[str]]]
) -> None:
    one = workspaces[0]
    small.write_novelty_table(Workspace(str(one)))
    past = [row for row in small.interactions() if row["timestamp"] < CUT]
    assert 0 < len(past) < len(small.interactions())
    assert trained_on(one) == histories(past)


def test_the_retriever_is_trained_on_users_of_train_alone(
    shop: Path, tmp_path: Path, trained_on: Callable[..., list[list[str]]]
) -> None:
    for stage in ("clusters", "transitions", "novelty_table"):
        (tmp_path / stage).symlink_to(shop / "workspace" / stage)
    splits = {row["user_id"]: row["split"] for row in read(tmp_path / "transitions/splits")}
    assert {"valid", "test"} < set(splits.values())
    others = [
        row
        for row in small.interactions()
        if row["rating"] >= 2 and splits[row["user_id"]] == "train"
    ]
    assert trained_on(tmp_path) == histories(others)


def test_a_cut_of_the_clusters_needs_a_split_by_time(workspaces: tuple[Path, Path], capsys) -> None:
    assert small.mine(workspaces[0], workspaces[0].parent / "log.parquet") == 2
    assert "--train_until=2023-11-15" in (said := capsys.readouterr().err)
    assert "needs --split_by=time" in said


def test_a_period_that_ends_before_the_cut_is_refused(
    workspaces: tuple[Path, Path], capsys
) -> None:
    log = workspaces[0].parent / "log.parquet"
    assert small.mine(workspaces[0], log, *MINE, "--until=2023-01-01") == 2
    assert "is not before --until=2023-01-01" in capsys.readouterr().err


def test_baselines_are_of_the_past(workspaces: tuple[Path, Path]) -> None:
    """Another future, of test users too, changes no score of what is fitted on counts."""
    found = []
    for workspace in workspaces:
        small.write_novelty_table(Workspace(str(workspace)))
        sources = PolicySources(
            str(workspace / "clusters"),
            Workspace(str(workspace)).level("novelty_table"),
            str(workspace / "transitions"),
            ((TABLE, str(workspace / "novelty_table")),),
            (),
        )
        policies = sources.load()
        pair = np.arange(policies.size**2, dtype=np.int32)
        asked = pair // policies.size, pair % policies.size
        found.append(
            {name: policy.scores(*asked) for name, policy in policies.by_name(0.5).items()}
        )
    for name, scores in found[0].items():
        np.testing.assert_array_equal(scores, found[1][name], err_msg=name)
