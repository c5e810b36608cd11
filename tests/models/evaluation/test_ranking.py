"""Ranks and metrics against sorting and counting."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation import ranking
from models.evaluation.ranking import UNRANKED, best, macro_recall, ranks, recall

M = 5
# Few distinct scores, so that there are ties.
score = st.sampled_from([-np.inf, 0.0, 1.0, 2.0])
matrices = st.lists(st.lists(score, min_size=M, max_size=M), min_size=1, max_size=6)


def ranking_of(row: list[float]) -> list[int]:
    return sorted((c for c in range(M) if row[c] > -np.inf), key=lambda c: (-row[c], c))


def test_the_examples_of_the_formulas_are_true() -> None:
    tried = doctest.testmod(ranking)
    assert tried.attempted >= 7
    assert tried.failed == 0


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


def test_who_knows_the_answer_has_recall_1_and_who_guesses_has_chance() -> None:
    novel = np.arange(2000, dtype=np.int32) % M
    knows = np.eye(M, dtype=np.float32)[novel]
    assert recall(ranks(knows, novel), 1) == 1
    assert macro_recall(ranks(knows, novel), novel, 1) == 1
    guesses = np.random.default_rng(0).random((len(novel), M), np.float32)
    assert recall(ranks(guesses, novel), 2) == pytest.approx(2 / M, abs=0.05)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8))
def test_head_is_the_shortest_begin_with_half(train: list[int]) -> None:
    is_head = ranking.head(np.array(train, np.int64))
    order = sorted(range(len(train)), key=lambda label: (-train[label], label))
    begin = next(
        n for n in range(len(train) + 1) if 2 * sum(sorted(train)[-n:] * (n > 0)) >= sum(train)
    )
    assert np.flatnonzero(is_head).tolist() == sorted(order[:begin])
