"""What a novelty table refuses, and how many clusters may follow a pair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models.interests.tables import novelty_table

NOVEL = np.full((5, 5, 3), -1, np.int32)
NOVEL[0, 1] = [4, 3, 2]
PROBABILITY = np.zeros(NOVEL.shape, np.float32)


@pytest.mark.parametrize(
    ("novel", "probability", "message"),
    [
        (NOVEL[:, :, :0], PROBABILITY[:, :, :0], "at least 1"),
        (NOVEL[:4], PROBABILITY[:4], "novel has shape"),
        (NOVEL, PROBABILITY[:, :, :2], "probability has shape"),
        (NOVEL + 2, PROBABILITY, "to 6"),
        (NOVEL - 1, PROBABILITY, "novel clusters -2"),
    ],
)
def test_table_rejects(novel: np.ndarray, probability: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        novelty_table(novel, probability)


@given(
    st.sets(st.integers(0, 4)),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1),
)
def test_own_and_blocked_clusters_are_no_candidates(
    blocked: set[int], pairs: list[tuple[int, int]]
) -> None:
    c1, c2 = np.array(pairs, np.int32).T
    table = novelty_table(NOVEL, PROBABILITY, tuple(blocked))
    assert table.candidate_count(c1, c2).tolist() == [
        len(set(range(5)) - {*pair} - blocked) for pair in pairs
    ]
