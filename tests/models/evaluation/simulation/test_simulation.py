"""Replays: policies known to be better win, those known to be worse lose, and counts reconcile."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.evaluation.simulation.bandits import (
    HierarchicalBandit,
    NeuralLinearBandit,
    Random,
    Scorer,
)
from models.evaluation.simulation.simulation import (
    SimulationConfig,
    band,
    engagement_chances,
    measures,
    replay,
    simulation_entry,
    slate_of,
)
from models.evaluation.simulation.user_model import UserState
from tests.models.evaluation.simulation.synthetic_users import (
    ARMS,
    CONFIG,
    WANTED,
    ByNumber,
    M,
    easy_model,
    users_of,
)

MODEL = easy_model()
START, KEYS = users_of(MODEL)
quick = settings(max_examples=40, deadline=None)


def played(policy: Scorer | None, seed: int = 0, config: SimulationConfig = CONFIG) -> NDArray:
    return replay(MODEL, START, KEYS, policy, config, seed)


@pytest.fixture(scope="module")
def finals() -> dict[str, dict[str, float]]:
    """Each measure of each policy, the mean over days, or at the end of the window."""
    policies: dict[str, Scorer | None] = {
        "none": None,
        "random": Random(M, 0),
        "oracle": ByNumber(WANTED),
        "worst": ByNumber(-WANTED),
        "hierarchical": HierarchicalBandit(ARMS, 0),
        "neural": NeuralLinearBandit(ARMS, 0),
    }
    found = {}
    for name, policy in policies.items():
        totals = played(policy)
        found[name] = {key: float(value[-1]) for key, value in measures(totals).items()} | {
            "novel": float(totals[:, 3].sum())
        }
    return found


@pytest.mark.parametrize("measure", ["novel", "unique_clusters", "users_with_5_clusters"])
def test_the_policy_that_knows_what_users_want_wins_and_its_opposite_loses(
    finals: dict[str, dict[str, float]], measure: str
) -> None:
    assert finals["worst"][measure] < finals["random"][measure] < finals["oracle"][measure]


@pytest.mark.parametrize("other", ["random", "oracle", "hierarchical", "neural"])
def test_users_engage_with_fewer_clusters_without_exploration(
    finals: dict[str, dict[str, float]], other: str
) -> None:
    assert finals["none"]["unique_clusters"] < finals[other]["unique_clusters"]
    assert finals["none"]["novel"] == 0


@pytest.mark.parametrize("bandit", ["hierarchical", "neural"])
def test_bandits_come_to_beat_chance(finals: dict[str, dict[str, float]], bandit: str) -> None:
    assert finals[bandit]["novel"] > 1.1 * finals["random"]["novel"]
    assert finals[bandit]["unique_clusters"] > finals["random"]["unique_clusters"]


@pytest.mark.parametrize("policy", [None, ByNumber(WANTED)])
def test_parts_of_the_users_add_up_to_all(policy: Scorer | None) -> None:
    parts = [slice(0, 30), slice(30, 31), slice(31, None)]
    sums = [replay(MODEL, START.rows(part), KEYS[part], policy, CONFIG, 4) for part in parts]
    assert np.array_equal(sum(sums), played(policy, 4))


def test_the_same_seed_replays_the_same_and_another_does_not() -> None:
    policy = ByNumber(WANTED)
    assert np.array_equal(played(policy, 1), played(policy, 1))
    assert not np.array_equal(played(policy, 1), played(policy, 2))


@pytest.mark.parametrize("bandit", [HierarchicalBandit, NeuralLinearBandit])
def test_a_bandit_of_the_same_seed_replays_the_same(bandit: type) -> None:
    assert np.array_equal(played(bandit(ARMS, 3)), played(bandit(ARMS, 3)))


@quick
@given(st.integers(0, 2**62), st.integers(1, 8), st.integers(1, 8), st.integers(1, 5))
def test_counts_reconcile_and_what_is_known_grows(
    seed: int, slots: int, exploring: int, days: int
) -> None:
    config = SimulationConfig(
        users=20, days=days, slots=slots, exploring=min(exploring, slots), outside=0.05
    )
    state, keys = users_of(MODEL, 20)
    totals = replay(MODEL, state, keys, Random(M, seed), config, seed)
    users, shown, engaged, novel, clusters, many = totals.T
    assert np.all(users == 20)
    assert np.all(shown == 20 * slots)
    assert np.all((novel >= 0) & (novel <= engaged) & (engaged <= shown))
    assert np.all(np.diff(clusters) >= 0)
    assert np.all(np.diff(many) >= 0)
    assert clusters[-1] <= min(engaged.sum(), 20 * M)
    assert novel.sum() <= clusters[-1]  # each cluster is new to a user once


def state_of(known: list[list[bool]], interest: list[list[float]]) -> UserState:
    state = UserState.empty(len(known), len(known[0]))
    state.known[:] = known
    state.interest[:] = interest
    return state


def test_slates_exploit_in_turns_and_explore_last() -> None:
    state = state_of([[True, False, True, False]] * 2, [[1, 0, 2, 0]] * 2)
    scores = np.array([[9, 1, 9, 2], [9, -np.inf, 9, 2]], np.float32)
    clusters, explores = slate_of(state, scores, 5, 2, np.zeros(0, np.int32))
    assert clusters.tolist() == [[2, 0, 2, 3, 1], [2, 0, 2, 3, 2]]
    assert explores.tolist() == [[False] * 3 + [True] * 2, [False] * 3 + [True, False]]


def test_control_and_blocked_clusters_explore_nothing() -> None:
    state = state_of([[True, False, True]], [[1, 0, 2]])
    blocked = np.array([1], np.int32)
    for scores, barred in ((None, blocked[:0]), (np.ones((1, 3), np.float32), blocked)):
        clusters, explores = slate_of(state, scores, 4, 2, barred)
        assert clusters.tolist() == [[2, 0, 2, 0]]
        assert not explores.any()


@quick
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=6),
    st.lists(st.floats(0, 0.25, width=32), min_size=4, max_size=4),
    st.floats(0.01, 10),
)
def test_chances_are_those_of_a_choice_against_the_outside(
    slate: list[int], wanted: list[float], outside: float
) -> None:
    chance, before = engagement_chances(
        np.array([wanted], np.float32), np.array([slate], np.int32), outside
    )
    assert np.all((chance >= 0) & (chance <= 1))
    for slot, cluster in enumerate(slate):
        weight = wanted[cluster] / slate.count(cluster)
        assert chance[0, slot] == pytest.approx(weight / (weight + outside))
        assert before[0, slot] == slate[:slot].count(cluster)


def test_band_is_students_t_interval_within_its_bounds() -> None:
    mean, low, high = band(np.array([[0.2, 0.0], [0.4, 1.0]]), 1.0)
    assert mean.tolist() == pytest.approx([0.3, 0.5])
    # t(0.975, 1) = 12.706; the standard errors are 0.1 and 0.5.
    assert low.tolist() == [0, 0]
    assert high.tolist() == [1, 1]
    assert band(np.array([[0.2], [0.4]]), np.inf)[2].tolist() == pytest.approx([0.3 + 1.2706], 1e-3)
    assert [one.tolist() for one in band(np.array([[0.5]]), 1.0)] == [[0.5]] * 3


def test_entry_has_each_measure_of_each_day() -> None:
    totals = {"b": {0: played(None), 1: played(None, 1)}, "a": {0: played(Random(M, 0))}}
    entry = simulation_entry(totals)
    assert (entry["days"], entry["users"], entry["seeds"]) == (CONFIG.days, CONFIG.users, 2)
    assert list(entry["policies"]) == ["a", "b"]
    for of_policy in entry["policies"].values():
        assert list(of_policy) == [
            *("novelty_rate", "satisfaction", "unique_clusters", "users_with_5_clusters")
        ]
        for days in of_policy.values():
            assert len(days) == CONFIG.days
            assert all(day["low"] <= day["value"] <= day["high"] for day in days)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"days": 0}, "days is 0"),
        ({"users": -1}, "users is -1"),
        ({"slots": 2, "exploring": 3}, "more than the 2 slots"),
        ({"outside": 0.0}, "outside is 0.0"),
        ({"outside": float("nan")}, "outside is nan"),
    ],
)
def test_settings_that_make_no_sense_are_named(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimulationConfig(**wrong)
