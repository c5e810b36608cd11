"""Log odds against the probabilities of a table."""

import numpy as np
import pytest

from models.interests.log_odds import UNIT, log_odds, log_unlisted
from tests.models.interests.tables import novelty_table


def test_what_is_left_belongs_to_the_others_in_equal_parts() -> None:
    novel = np.array([[2, 3, -1]], np.int32)
    probability = np.array([[0.5, 0.3, 0]], np.float32)
    assert np.exp(log_unlisted(novel, probability, np.array([4]))) == pytest.approx([0.1])


def test_none_of_the_others_has_more_than_the_last_listed() -> None:
    novel, probability = np.array([[2]], np.int32), np.array([[0.25]], np.float32)
    found = log_unlisted(novel, probability, np.array([2]))
    assert found[0] < np.log(np.float32(0.25))
    assert found == pytest.approx(np.log([0.25]))


def test_log_odds_are_how_much_likelier_a_listed_cluster_is_than_another_one() -> None:
    novel = np.full((5, 5, 2), -1, np.int32)
    probability = np.zeros(novel.shape, np.float32)
    novel[0, 1], probability[0, 1] = [4, 2], [0.6, 0.2]  # 0.2 are left to 3
    novel[0, 0], probability[0, 0] = [4, 2], [0.6, 0.2]  # 0.1 are left to each of 1 and 3
    found = log_odds(novelty_table(novel, probability)) * UNIT
    assert found[0, 1, 0] == pytest.approx(np.log(3), abs=1e-4)
    assert found[0, 0] == pytest.approx(np.log([6, 2]), abs=1e-4)


def test_what_is_blocked_takes_nothing_of_what_is_left() -> None:
    novel = np.full((5, 5, 2), -1, np.int32)
    probability = np.zeros(novel.shape, np.float32)
    novel[0, 0], probability[0, 0] = [4, 2], [0.6, 0.2]
    found = log_odds(novelty_table(novel, probability, (1,))) * UNIT  # 0.2 are left to 3
    assert found[0, 0, 0] == pytest.approx(np.log(3), abs=1e-4)


def test_what_is_listed_has_some_and_what_is_not_has_none() -> None:
    novel = np.array([[[0, -1]]], np.int32)
    table = novelty_table(novel, np.zeros(novel.shape, np.float32))
    assert log_odds(table).tolist() == [[[1, 0]]]
