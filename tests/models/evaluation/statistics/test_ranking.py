"""Ranks against sorting."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.statistics.ranking import UNRANKED, best, head, ranks

M = 5
# Few distinct scores, so that there are ties.
score = st.sampled_from([-np.inf, 0.0, 1.0, 2.0])
matrices = st.lists(st.lists(score, min_size=M, max_size=M), min_size=1, max_size=6)


def ranking_of(row: list[float]) -> list[int]:
    return sorted((c for c in range(M) if row[c] > -np.inf), key=lambda c: (-row[c], c))


@given(matrices, st.integers(0, M - 1))
def test_the_rank_is_the_place_in_the_sorted_row(rows: list[list[float]], novel: int) -> None:
    found = ranks(np.array(rows, np.float32), np.full(len(rows), novel, np.int32))
    for row, rank in zip(rows, found.tolist(), strict=True):
        order = ranking_of(row)
        assert rank == (order.index(novel) if novel in order else UNRANKED)


@given(matrices, st.integers(1, M))
def test_the_best_are_the_begin_of_the_sorted_row(rows: list[list[float]], count: int) -> None:
    found = best(np.array(rows, np.float32), count)
    assert [[c for c in row if c >= 0] for row in found.tolist()] == [
        ranking_of(row)[:count] for row in rows
    ]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8))
def test_head_is_the_shortest_begin_with_half(train: list[int]) -> None:
    is_head = head(np.array(train, np.int64))
    order = sorted(range(len(train)), key=lambda label: (-train[label], label))
    begin = next(
        n for n in range(len(train) + 1) if 2 * sum(sorted(train)[-n:] * (n > 0)) >= sum(train)
    )
    assert np.flatnonzero(is_head).tolist() == sorted(order[:begin])
