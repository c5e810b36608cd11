"""Baselines against their definitions, written out with dicts."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.policies import count_policies
from models.evaluation.policies.count_policies import CONCENTRATION, TransitionCounts
from models.evaluation.statistics.ranking import best

M = 4
NONE = np.array([], np.int32)
EMBEDDINGS = np.array([[1, 0], [1, 1], [0, 2], [-1, 0]], np.float32)
PAIRS = [(c1, c2) for c1 in range(M) for c2 in range(M)]
C1, C2 = np.array(PAIRS, np.int32).T
ids = st.integers(0, M - 1)
triples = st.dictionaries(
    st.tuples(ids, ids, ids).filter(lambda row: row[2] not in row[:2]),
    st.integers(1, 500),
    max_size=20,
)


def table(counts: dict[tuple[int, int, int], int]) -> TransitionCounts:
    rows = np.array(list(counts), np.int32).reshape(-1, 3)
    return TransitionCounts(*rows.T, np.array(list(counts.values()), np.int64), M)


def fitted(counts: dict[tuple[int, int, int], int], blocked: np.ndarray = NONE) -> dict:
    return count_policies.count_policies(table(counts), EMBEDDINGS, blocked)


def expected(counts: dict[tuple[int, int, int], int], name: str, c1: int, c2: int, c: int) -> float:
    """Return the score, straight from the definition."""
    total = Counter(dict.fromkeys(range(M), 1))
    older, newer = Counter(), Counter()
    of_older, of_newer, of_pair = Counter(), Counter(), Counter()
    for (a, b, label), users in counts.items():
        total[label] += users
        older[a, label] += users
        newer[b, label] += users
        of_older[a] += users
        of_newer[b] += users
        of_pair[a, b] += users
    p = total[c] / sum(total.values())
    after_older = (older[c1, c] + CONCENTRATION * p) / (of_older[c1] + CONCENTRATION)
    after_newer = (newer[c2, c] + CONCENTRATION * p) / (of_newer[c2] + CONCENTRATION)
    second = counts.get((c1, c2, c), 0) + CONCENTRATION * after_newer
    bayes = p * (after_older / p) * (after_newer / p)
    return {
        "popularity": math.log(p),
        "markov_1": math.log(after_newer),
        "markov_2": math.log(second / (of_pair[c1, c2] + CONCENTRATION)),
        "naive_bayes": math.log(bayes),
        "cluster_neighbours": (cosine(c, c1) + cosine(c, c2)) / 2,
    }[name]


def cosine(one: int, other: int) -> float:
    a, b = EMBEDDINGS[one].tolist(), EMBEDDINGS[other].tolist()
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


@settings(max_examples=50)
@given(triples)
def test_scores_are_as_defined(counts: dict[tuple[int, int, int], int]) -> None:
    policies = fitted(counts)
    for name in set(policies) - {"pair_counts"}:
        scores = policies[name].scores(C1, C2)
        for row, (c1, c2) in enumerate(PAIRS):
            for c in set(range(M)) - {c1, c2}:
                wanted = expected(counts, name, c1, c2, c)
                assert scores[row, c] == pytest.approx(wanted, abs=1e-5)


@settings(max_examples=50)
@given(triples)
def test_pair_counts_go_by_count_then_popularity_then_id(
    counts: dict[tuple[int, int, int], int],
) -> None:
    total = Counter()
    for (_, _, label), users in counts.items():
        total[label] += users
    shown = best(fitted(counts)["pair_counts"].scores(C1, C2), M)
    for row, (c1, c2) in enumerate(PAIRS):
        order = sorted(
            set(range(M)) - {c1, c2},
            key=lambda c: (-counts.get((c1, c2, c), 0), -total[c], c),
        )
        assert [c for c in shown[row].tolist() if c >= 0] == order


@given(triples)
def test_known_and_blocked_clusters_are_no_answer(
    counts: dict[tuple[int, int, int], int],
) -> None:
    for policy in fitted(counts, np.array([2], np.int32)).values():
        scores = policy.scores(C1, C2)
        assert scores.dtype == np.float32
        for row, (c1, c2) in enumerate(PAIRS):
            assert np.flatnonzero(np.isneginf(scores[row])).tolist() == sorted({c1, c2, 2})


def test_counts_beyond_what_32_bits_hold_are_told_apart() -> None:
    counts = {(0, 0, 1): 2**24, (0, 0, 2): 2**24 + 2, (1, 1, 3): 2**26}
    scores = fitted(counts)["pair_counts"].scores(NONE, NONE)
    assert scores.shape == (0, M)
    zero = np.zeros(1, np.int32)
    assert best(fitted(counts)["pair_counts"].scores(zero, zero), 3).tolist() == [[2, 1, 3]]
