"""Policies are asked for the clusters that are new to a user."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.evaluation.policies.policy_names import TABLE
from models.evaluation.policies.table_policy import TablePolicy
from tests.models.interests.tables import novelty_table
from tests.transforms.evaluation.test_held_out_transitions import CLUSTERS, sequences
from transforms.evaluation.held_out_transitions import held_out_transitions
from transforms.evaluation.load_policies import Policies
from transforms.evaluation.score_policies import (
    WEIGHTS,
    choose_weight,
    hits_by_weight,
    sums_of_scores,
)

M = 8  # of which the items are of four

WEIGHT_OF_ALL = np.ones((1, 1), np.int32)


@given(
    arrays(np.float32, M, elements=st.integers(0, 3)),
    arrays(bool, M),
    st.integers(0, M - 1),
)
def test_what_is_known_takes_no_place(scores: np.ndarray, known: np.ndarray, novel: int) -> None:
    known[novel] = False
    user = np.zeros(1, np.int64)
    found = sums_of_scores(scores[None], known[None], np.array([novel]), user, WEIGHT_OF_ALL)
    new = [cluster for cluster in range(M) if not known[cluster]]
    order = sorted(new, key=lambda cluster: (-scores[cluster], cluster))
    metrics = found.metrics(np.zeros(M, bool))
    assert metrics["mrr"][0] == round(2**32 / (1 + order.index(novel))) / 2**32
    assert metrics["novelty"][0] == 1
    assert found.winners[:, 0].tolist() == [int(cluster == order[0]) for cluster in range(M)]


def test_weight_is_chosen_among_what_is_new_to_valid_users() -> None:
    """Users go from cluster 0 to 2, which the table has behind six others; only popularity helps.

    Were known clusters ranked too, it would help the known one first.
    """
    novel = np.tile(np.array([3, 4, 5, 6, 7, 2, 0], np.int32), (M, M, 1))
    probability = np.tile(np.linspace(0.2, 0.1, 7, dtype=np.float32), (M, M, 1))
    table = TablePolicy(novelty_table(novel, probability))
    popularity = np.where(np.arange(M) == 0, 9.0, np.where(np.arange(M) == 2, 1.0, 0.0))
    policies = Policies({TABLE: table}, {}, {}, np.ones(M), popularity.astype(np.float32))
    [some] = held_out_transitions(sequences([[0, 4], [1, 4]]), CLUSTERS, M, None)
    hits = hits_by_weight(policies, some)
    score = np.log(probability[0, 0, 5]) + WEIGHTS
    last_of_five = np.log(probability[0, 0, 4])
    assert hits.tolist() == [2 if one > last_of_five else 0 for one in score.astype(np.float32)]
    assert choose_weight(hits) == WEIGHTS[np.argmax(score > last_of_five)]


def test_without_valid_users_popularity_has_no_weight() -> None:
    assert choose_weight(None) == 0
