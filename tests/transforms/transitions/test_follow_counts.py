"""Counting what users took up after what, from their transitions."""

import apache_beam as beam
import numpy as np
import pyarrow as pa

from models.interests.follow_lift import count_follows
from tests.transforms.eager import run
from transforms import schemas as col
from transforms.transitions.follow_counts import CountFollows, follows_table, interests_in_order


def transitions(*rows: tuple[str, int, int, int]) -> pa.Table:
    """TRANSITIONS of rows of user, c1, c2, novel; a second apart."""
    return pa.table(
        [*zip(*rows, strict=True), pa.array(range(len(rows)), pa.int64()).cast(col.TIME_TYPE)],
        schema=col.TRANSITIONS,
    )


OF_TWO = transitions(("b", 4, 4, 2), ("b", 4, 2, 0), ("a", 1, 1, 3))


def test_interests_are_those_the_transitions_lead_through() -> None:
    user, cluster = interests_in_order(OF_TWO)
    assert cluster.tolist() == [4, 2, 0, 1, 3]
    assert len(set(user[:3])) == len(set(user[3:])) == 1
    assert user[0] != user[3]


def test_no_transitions_lead_through_nothing() -> None:
    user, cluster = interests_in_order(col.TRANSITIONS.empty_table())
    assert (len(user), len(cluster)) == (0, 0)


def test_users_of_several_tables_are_counted_together() -> None:
    follows = count_follows(*interests_in_order(OF_TWO), 5)
    tables = (OF_TWO, col.TRANSITIONS.empty_table(), OF_TWO)
    got = run(lambda p: {"all": p | beam.Create(tables) | CountFollows(5)})
    assert got["all"] == [follows_table(2 * follows)]


def test_the_table_has_a_row_for_each_pair_that_was_seen() -> None:
    table = follows_table(np.array([[0, 1 << 16], [0, 0]]))
    assert table.to_pylist() == [{"known": 0, "novel": 1, "weight": 1.0}]
