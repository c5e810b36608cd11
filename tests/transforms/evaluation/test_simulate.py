"""The simulation in Beam: one entry, whatever the parts of the users."""

from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from models.evaluation.simulation.bandits import Arms
from models.evaluation.simulation.simulation import SimulationConfig
from tests.models.evaluation.simulation.synthetic_users import ARMS, WANTED, ByNumber, M
from tests.transforms import eager
from transforms import schemas as col
from transforms.evaluation import simulate
from transforms.evaluation.simulate import (
    InProcess,
    Simulate,
    latest_engagements,
    read_arms,
    tasks_of,
    users_of,
    world_of,
)

CONFIG = SimulationConfig(users=40, days=3, seeds=2, slots=4, exploring=1, history=4)
CLUSTERS = np.arange(2 * M, dtype=np.int32) % M


def sequences(users: range) -> pa.Table:
    items = [np.random.default_rng(user).integers(0, 2 * M, 1 + user % 7) for user in users]
    times = [list(range(len(one))) for one in items]
    ids = [f"user{user}" for user in users]
    return pa.table([ids, times, items], schema=col.SEQUENCES)


def by_weight(weight: float) -> dict[str, ByNumber]:
    return {"wanted": ByNumber(weight * WANTED), "popularity": ByNumber(-WANTED)}


def entry(parts: list[pa.Table], names: tuple[str, ...] = ("wanted", "popularity")) -> Any:
    def build(pipeline: beam.Pipeline) -> dict[str, beam.PCollection]:
        one = {
            label: pipeline | label >> beam.Create([value])
            for label, value in (("w", 1.0), ("item_clusters", (None, CLUSTERS)), ("arms", ARMS))
        }
        simulated = (
            pipeline
            | beam.Create(parts).with_output_types(pa.Table)
            | Simulate(CONFIG, names, by_weight, one["w"], one["item_clusters"], one["arms"])
        )
        return {"entry": simulated}

    (found,) = eager.run(build)["entry"]
    return found


@pytest.fixture(scope="module")
def whole() -> Any:
    return entry([sequences(range(50))])


def test_entry_does_not_depend_on_the_parts_of_the_users(
    whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [sequences(range(30, 50)), sequences(range(0)), sequences(range(30))]
    monkeypatch.setattr(simulate, "_BLOCK", 7)
    assert entry(parts) == whole


def test_entry_is_of_the_policies_the_control_and_those_that_learn(whole: Any) -> None:
    assert list(whole["policies"]) == [
        *("hierarchical_bandit", "neural_linear_bandit", "no_exploration", "popularity"),
        *("random", "wanted"),
    ]
    assert (whole["days"], whole["users"], whole["seeds"]) == (3, 40, 2)
    assert all(day["value"] == 0 for day in whole["policies"]["no_exploration"]["novelty_rate"])


def test_without_users_there_is_no_entry() -> None:
    assert entry([]) is None


@given(st.lists(st.integers(0, 12), unique=True, min_size=1), st.integers(1, 8), st.integers(1, 9))
def test_latest_engagements_are_the_last_of_each_history(
    users: list[int], history: int, count: int
) -> None:
    config = SimulationConfig(users=count, history=history)
    table = pa.concat_tables([sequences(range(one, one + 1)) for one in users])
    found = latest_engagements(table, CLUSTERS, config)
    assert found["key"].to_pylist() == sorted(found["key"].to_pylist())
    keys = simulate.stable_hash(table[col.USER_ID], config.seed).tolist()
    items = dict(zip(keys, table[col.ITEMS_OF_USER].to_pylist(), strict=True))
    assert found.num_rows == min(count, len(users))
    for row in found.to_pylist():
        assert row["clusters"] == [CLUSTERS[item] for item in items[row["key"]]][-history:]


def test_users_with_the_lowest_keys_are_the_ones_that_are_simulated() -> None:
    histories = latest_engagements(sequences(range(50)), CLUSTERS, SimulationConfig(users=50))
    world = world_of(histories, M, CONFIG)
    assert world is not None
    assert world.keys.tolist() == histories["key"].to_pylist()[:40]


def test_tasks_are_about_every_user_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "_BLOCK", 15)
    for name in ("wanted", "no_exploration", "random", "neural_linear_bandit"):
        tasks = [task for task in tasks_of(("wanted",), CONFIG) if task[:2] == (name, 1)]
        users = [user for task in tasks for user in range(40)[users_of(task)]]
        assert users == list(range(40))


def test_tree_has_the_ancestors_of_each_cluster(tmp_path: Path) -> None:
    parents = [[None, None], [0, 1, 1], [2, 0, 1, 2]]
    rows = [
        {"level": level, "cluster_id": node, "parent_id": parent}
        for level, nodes in enumerate(parents)
        for node, parent in reversed(list(enumerate(nodes)))
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=col.CLUSTERS), tmp_path / "clusters.parquet")
    read = partial(read_arms, str(tmp_path))
    finest: Arms = read(2, np.eye(4, dtype=np.float32))
    assert finest.ancestors.tolist() == [[1, 0, 1, 1], [2, 0, 1, 2], [0, 1, 2, 3]]
    assert read(0, np.eye(2, dtype=np.float32)).ancestors.tolist() == [[0, 1]]


def test_blas_has_its_threads_again_when_the_last_replay_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Not by asking BLAS itself: whatever else runs in this process may set its threads too.
    limits = create_autospec(threadpool_limits)
    monkeypatch.setattr(simulate, "threadpool_limits", limits)
    here = InProcess({})
    with here.single_threaded():
        with here.single_threaded():
            limits.assert_called_once_with(1, "blas")
        limits.return_value.restore_original_limits.assert_not_called()
    limits.return_value.restore_original_limits.assert_called_once_with()
