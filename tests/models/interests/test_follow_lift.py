"""Counts of what is taken up after what."""

from itertools import chain
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.interests.follow_lift import (
    DISCOUNT,
    UNIT,
    FollowLift,
    cosine_similarity,
    count_follows,
)

HISTORIES = st.lists(
    st.permutations(range(5)).flatmap(lambda p: st.just(p[: 1 + p[0]])), max_size=6
)

NOT_ALIKE = np.zeros((5, 5))


def follows(histories: list[list[int]]) -> np.ndarray:
    user = np.repeat(np.arange(len(histories)), [len(one) for one in histories])
    return count_follows(user, np.array(list(chain(*histories)), np.int32), 5)


@given(HISTORIES)
def test_counts_are_those_of_the_definition(histories: list[list[int]]) -> None:
    expected = np.zeros((5, 5))
    for history in histories:
        for at, later in enumerate(history):
            for before, earlier in enumerate(history[:at]):
                expected[earlier, later] += DISCOUNT ** (at - before - 1)
    assert follows(histories) * UNIT == pytest.approx(expected, abs=1e-3)


@given(HISTORIES, st.randoms())
def test_the_order_of_users_does_not_matter(histories: list[list[int]], random: Random) -> None:
    shuffled = list(histories)
    random.shuffle(shuffled)
    assert (follows(histories) == follows(shuffled)).all()


def test_what_follows_more_often_than_usual_scores_higher() -> None:
    lift = FollowLift.from_counts(follows([[0, 1], [0, 1], [2, 3], [2, 3]] * 20), NOT_ALIKE)
    assert lift.lift[0].argmax() == 1
    assert lift.lift[2].argmax() == 3


def test_without_counts_what_is_alike_is_likelier() -> None:
    alike = cosine_similarity(np.array([[1, 0, 0], [2, 0.2, 0], [0, 0, 1]]))
    lift = FollowLift.from_counts(np.zeros((3, 3), np.int64), alike).lift
    assert lift[0, 1] > lift[0, 2]


def test_many_counts_outweigh_likeness() -> None:
    alike = cosine_similarity(np.array([[1, 0], [1, 0.1], [0, 1]]))
    lift = FollowLift.from_counts(
        np.array([[0, 0, 5000], [5000, 0, 0], [5000, 0, 0]]) << 16, alike
    ).lift
    assert lift[0].argmax() == 2


def test_likeness_is_the_cosine_about_the_mean() -> None:
    alike = cosine_similarity(np.array([[3.0, 0], [0, 1]]))
    assert alike == pytest.approx(np.array([[1, -1], [-1, 1]]))


def test_an_embedding_of_nothing_is_like_nothing_else() -> None:
    assert np.isfinite(cosine_similarity(np.zeros((2, 3)))).all()


def test_without_counts_nor_likeness_nothing_is_likelier() -> None:
    assert FollowLift.from_counts(np.zeros((5, 5), np.int64), NOT_ALIKE).lift == pytest.approx(0)


def test_known_interests_are_no_answer() -> None:
    scores = FollowLift.from_counts(follows([[0, 1, 2]]), NOT_ALIKE).scores(
        np.array([0, 3]), np.array([1, 3])
    )
    assert np.isneginf(scores).tolist() == [
        [True, True, False, False, False],
        [False, False, False, True, False],
    ]


def test_an_interest_whose_lifts_differ_little_is_the_first_answer_of_some_pair() -> None:
    # All of 1 to 4 are followed by 0, a little more often by one of them; each has its own sequel.
    follows = np.full((5, 5), 100) - 100 * np.eye(5, dtype=int)
    follows[1, 0] = 130
    for one, sequel in ((1, 2), (2, 3), (3, 4), (4, 1)):
        follows[one, sequel] = 200
    lift = FollowLift.from_counts(follows.astype(np.int64) << 16, NOT_ALIKE)
    older, newer = (one.ravel().astype(np.int32) for one in np.indices((5, 5)))
    assert set(lift.scores(older, newer).argmax(axis=1)) == set(range(5))


def test_a_single_interest_has_a_finite_lift() -> None:
    assert np.isfinite(
        FollowLift.from_counts(np.zeros((1, 1), np.int64), np.zeros((1, 1))).lift
    ).all()
