"""The aligned choice against plain Python."""

import numpy as np
import pytest
import tensorflow as tf

from models.evaluation.policies.pooled_policy import PooledPolicy
from models.interests.recent_pairs import RECENT
from models.retrieval.serving.aligned_choice import aligned, table_part
from models.retrieval.serving.pair_choice import last_engagements
from tests.models.retrieval.serving.test_pooled_choice import LOG_ODDS, NOVEL, TABLE, M

HISTORY = [3, 5, 3, 7]


def table(history: list[int], most: int) -> tuple[np.ndarray, np.ndarray]:
    last = last_engagements(tf.constant([history], tf.int32), M)
    part, candidates = table_part(last, tf.constant(NOVEL), tf.constant(LOG_ODDS), most)
    return part.numpy()[0], candidates.numpy()[0]


def test_the_part_of_the_table_ranks_as_the_pooled_policy() -> None:
    recent = list(dict.fromkeys(reversed(HISTORY)))
    padded = np.array([recent + recent[-1:] * (RECENT - len(recent))], np.int32)
    scores = PooledPolicy(TABLE).scores(padded)[0]
    part, _ = table(HISTORY, M)
    listed = scores > -np.inf
    assert (part[~listed] == 0).all()
    np.testing.assert_array_equal(np.argsort(-scores[listed]), np.argsort(-part[listed]))


@pytest.mark.parametrize("most", [1, 3, M])
def test_candidates_are_what_the_table_proposes_most(most: int) -> None:
    part, candidates = table(HISTORY, most)
    new = [c for c in range(M) if c not in HISTORY and part[c] > 0]
    expected = sorted(new, key=lambda c: -part[c])[:most]
    assert set(np.flatnonzero(candidates)) == set(expected)


def choice(scores: list[float], able: list[bool]) -> dict[str, np.ndarray]:
    parts = np.zeros([1, M, 3], np.float32)
    parts[0, : len(scores), 1] = scores
    mask = np.zeros([1, M], bool)
    mask[0, : len(able)] = able
    last = last_engagements(tf.constant([HISTORY], tf.int32), M)
    found = aligned(last, tf.constant(parts), tf.constant(mask), tf.constant([1.0, 2.0, 1.0]))
    return {name: value.numpy()[0] for name, value in found._asdict().items()}


def test_the_best_of_the_able_ones_is_chosen_with_its_share() -> None:
    found = choice([5.0, 1.0, 1.5], [False, True, True])
    assert (found["novel"], found["c1"], found["c2"], found["propensity"]) == (2, 3, 7, 1)
    assert found["probability"] == pytest.approx(1 / (1 + np.exp(-1)))


def test_equal_scores_are_in_the_order_of_ids() -> None:
    assert choice([1.0, 2.0, 2.0], [True, True, True])["novel"] == 1


def test_nothing_able_is_no_answer() -> None:
    found = choice([1.0], [False])
    assert (found["novel"], found["probability"], found["propensity"]) == (-1, 0, 1)
