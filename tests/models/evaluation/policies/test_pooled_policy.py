"""Pooled counts against a walk over the pairs."""

import numpy as np
import pytest

from models.evaluation.policies.pooled_policy import PooledFollowLift
from models.interests.follow_lift import FollowLift
from models.interests.recent_pairs import RECENT, pair_ranks, pair_weights

LIFT = FollowLift(np.random.default_rng(0).normal(size=(12, 12)))


@pytest.mark.parametrize("known", [1, 2, 5, RECENT])
def test_pooled_follow_lift_is_the_mean_over_the_pairs(known: int) -> None:
    recent = np.array([*range(known), *[known - 1] * (RECENT - known)], np.int32)
    weights = pair_weights(RECENT)[known]
    expected = np.zeros(12)
    for (older, newer), weight in zip(pair_ranks(RECENT), weights, strict=True):
        if weight:
            both = LIFT.lift[recent[older]] + LIFT.lift[recent[newer]]
            expected += weight / weights.sum() * both
    found = PooledFollowLift(LIFT, np.array([], np.int32)).scores(recent[None])[0]
    assert found == pytest.approx(expected)


def test_what_is_blocked_is_no_answer() -> None:
    scores = PooledFollowLift(LIFT, np.array([3], np.int32)).scores(np.zeros((1, RECENT), int))
    assert np.isneginf(scores[0]).nonzero()[0].tolist() == [3]
