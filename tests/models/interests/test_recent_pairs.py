"""Recent clusters against a walk through the history, and the weights of pairs against draws."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.interests.recent_pairs import (
    RECENT,
    pair_ranks,
    pair_weights,
    recent_clusters,
    run_starts,
)


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=20)), st.integers(1, RECENT))
def test_recent_clusters_are_the_latest_ones_of_each_history(
    histories: list[list[int]], count: int
) -> None:
    user = np.repeat(np.arange(len(histories)), [len(one) for one in histories])
    cluster = np.array([one for history in histories for one in history], np.int32)
    starts = run_starts(user, cluster)
    user, cluster = user[starts], cluster[starts]
    last = np.flatnonzero(np.append(user[1:] != user[:-1], [True])[: len(user)])
    expected = []
    for history in histories:
        newest_first = list(dict.fromkeys(reversed(history)))
        expected.append((newest_first + newest_first[-1:] * count)[:count])
    assert recent_clusters(user, cluster, last, count).tolist() == expected


@pytest.mark.parametrize("known", range(1, RECENT + 1))
def test_pair_weights_are_those_of_two_draws_without_replacement(known: int) -> None:
    rng = np.random.default_rng(known)
    shares = 2.0 ** -(np.arange(known) / 2)
    scores = rng.gumbel(size=(200_000, known)) + np.log(shares)  # the Gumbel-max trick
    pairs = [tuple(pair) for pair in np.sort(np.argsort(-scores, axis=1)[:, :2]).tolist()]
    seen = Counter((pair[-1], pair[0]) for pair in pairs)  # (older, newer)
    weights = pair_weights(RECENT)[known] / 2**30
    for ranks, weight in zip(map(tuple, pair_ranks(RECENT).tolist()), weights, strict=True):
        assert seen[ranks] / len(pairs) == pytest.approx(weight, abs=0.005)
