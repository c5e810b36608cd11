"""Ranks against sorting."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.retrieval.ranking_metrics import hit_rate, ndcg, rank_of


@settings(max_examples=50)
@given(st.data())
def test_rank_is_the_place_in_the_sorted_items_outside_the_history(data: st.DataObject) -> None:
    # Few distinct scores, so that there are ties.
    scores = data.draw(st.lists(st.integers(0, 3), min_size=5, max_size=5))
    order = data.draw(st.permutations(range(5)))
    history, item = np.array(order[:2], np.int32), order[2]
    ranking = sorted(set(range(5)) - set(order[:2]), key=lambda index: (-scores[index], index))
    rank = rank_of(np.array([scores], np.float32), [history], np.array([item], np.int32))
    assert rank.tolist() == [ranking.index(item)]


def test_broken_scores_rank_last() -> None:
    scores = np.array([[np.nan] * 5, [1, np.nan, 0, 0, 0]], np.float32)
    histories = [np.array([0], np.int32)] * 2
    assert rank_of(scores, histories, np.array([2, 1], np.int32)).tolist() == [4, 4]


def test_metrics_equal_their_sums() -> None:
    rank = np.arange(12)
    assert hit_rate(rank) == 10 / 12
    gains = [1 / math.log2(place + 1) for place in range(1, 11)]
    assert math.isclose(ndcg(rank), sum(gains) / 12)
