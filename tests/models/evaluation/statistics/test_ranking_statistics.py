"""Sums over resamples against metrics of the transitions, repeated as often as they count."""

import functools
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.statistics.bootstrap import interval, poisson_weights
from models.evaluation.statistics.ranking import UNRANKED, entropy
from models.evaluation.statistics.ranking_statistics import RankSums, rank_sums

M, USERS, SHOWN = 4, 3, 2
# user, novel, rank, shown
row = st.tuples(
    st.integers(0, USERS - 1),
    st.integers(0, M - 1),
    st.sampled_from([0, 1, 4, 5, 9, 10, UNRANKED]),
    st.lists(st.integers(-1, M - 1), min_size=SHOWN, max_size=SHOWN),
)
Row = tuple[int, int, int, list[int]]
KNOWN = np.array([[True, False, True, False], [False] * 4, [True] * 4])  # by users
IS_HEAD = np.array([True, False, False, True])


def sums(rows: list[Row], weights: np.ndarray) -> RankSums:
    user, novel, rank, shown = (np.array(part) for part in zip(*rows, strict=True))
    return rank_sums(weights, user, novel, rank, shown, KNOWN[user])


def recall(rank: np.ndarray, k: int) -> float:
    return float(np.mean(rank < k))


def macro_recall(rank: np.ndarray, novel: np.ndarray, k: int) -> float:
    return float(np.mean([recall(rank[novel == label], k) for label in set(novel.tolist())]))


def mean_reciprocal_rank(rank: np.ndarray) -> float:
    return float(np.mean([0 if r == UNRANKED else 1 / (r + 1) for r in rank.tolist()]))


def novelty(shown: np.ndarray, known: np.ndarray) -> float:
    pairs = [(row, c) for row, some in enumerate(shown.tolist()) for c in some if c >= 0]
    return float(np.mean([not known[row, c] for row, c in pairs]))


def expected(rows: list[Row]) -> dict[str, float]:
    """Return the metrics of rows by their definitions."""
    user, novel, rank, shown = (np.array(part) for part in zip(*rows, strict=True))
    head, winner = IS_HEAD[novel], shown[:, 0]
    found = {f"recall_at_{k}": recall(rank, k) for k in (1, 5, 10)} | {
        "macro_recall_at_5": macro_recall(rank, novel, 5),
        "mrr": mean_reciprocal_rank(rank),
        "entropy": float(entropy(np.bincount(winner[winner >= 0], minlength=M))),
    }
    if np.any(shown >= 0):
        found["novelty"] = novelty(shown, KNOWN[user])
    for name, part in (("head", head), ("tail", ~head)):
        if part.any():
            found[f"{name}_recall_at_5"] = recall(rank[part], 5)
    return found


@settings(max_examples=50)
@given(
    st.lists(row, min_size=1, max_size=12),
    st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=2), min_size=USERS, max_size=USERS),
)
def test_a_resample_is_the_metrics_of_its_rows(rows: list[Row], counts: list[list[int]]) -> None:
    weights = np.array([[1, *count] for count in counts], np.int32)
    found = sums(rows, weights).metrics(IS_HEAD)
    for resample in range(weights.shape[1]):
        drawn = [one for one in rows for _ in range(weights[one[0], resample])]
        wanted = expected(drawn) if drawn else {}
        for name, samples in found.items():
            if name in wanted:
                assert samples[resample] == pytest.approx(wanted[name], abs=1e-9)
            elif name != "entropy":
                assert np.isnan(samples[resample])


@given(st.lists(row, min_size=2, max_size=12), st.randoms())
def test_parts_add_up_in_any_order(rows: list[Row], random) -> None:
    weights = poisson_weights(np.random.default_rng(1).integers(0, 2**64, (USERS, 5), np.uint64))
    parts = [sums([one], weights) for one in rows]
    random.shuffle(parts)
    added, whole = functools.reduce(operator.add, parts), sums(rows, weights)
    assert all((value == vars(whole)[name]).all() for name, value in vars(added).items())


def test_weights_are_poisson() -> None:
    weights = poisson_weights(np.random.default_rng(0).integers(0, 2**64, (400, 500), np.uint64))
    assert (weights[:, 0] == 1).all()
    assert weights[:, 1:].mean() == pytest.approx(1, abs=0.01)
    assert weights[:, 1:].var() == pytest.approx(1, abs=0.02)
    assert (weights[:, 1:] == 0).mean() == pytest.approx(1 / np.e, abs=0.005)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of a hundred samples of users, each with a few transitions that go well or badly together."""
    rng = np.random.default_rng(3)
    truth, covered = 0.4, 0
    for _ in range(100):
        users = 150
        luck = rng.beta(2, 3, users)  # mean 0.4
        user = np.repeat(np.arange(users), 4)
        rank = np.where(rng.random(len(user)) < luck[user], 0, 7).astype(np.int32)
        weights = poisson_weights(rng.integers(0, 2**64, (users, 200), np.uint64))
        none = np.full((len(user), 1), -1)
        known = np.zeros((len(user), M), bool)
        found = rank_sums(weights, user, user % M, rank, none, known)
        ends = interval(found.metrics(IS_HEAD)["recall_at_1"])
        covered += ends["low"] <= truth <= ends["high"]
    assert 88 <= covered <= 100


def test_what_is_undefined_is_none() -> None:
    assert interval(np.array([np.nan, 1.0])) == {"value": None, "low": None, "high": None}
