"""What policies are made of."""

import numpy as np

from models.interests.follow_lift import FollowLift
from transforms.evaluation.load_policies import Unblocked


def test_what_is_blocked_is_no_answer_and_nothing_else_changes() -> None:
    follow_lift = FollowLift(np.random.default_rng(0).normal(size=(6, 6)))
    c1, c2 = np.array([0, 4], np.int32), np.array([1, 4], np.int32)
    scores = Unblocked(follow_lift, np.array([2, 4], np.int32)).scores(c1, c2)
    expected = follow_lift.scores(c1, c2)
    assert (scores[:, [2, 4]] == -np.inf).all()
    np.testing.assert_array_equal(scores[:, [0, 1, 3, 5]], expected[:, [0, 1, 3, 5]])
