"""Sequences of users, against sorting each user's rows."""

from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.eager import run
from tests.transforms.transitions.ties import tie_key
from transforms import schemas as col
from transforms.tables.sharding import shards_of
from transforms.tables.shuffle import PARTS
from transforms.transitions.user_sequences import (
    CountSequences,
    ReadSequences,
    SequenceParts,
    WriteSequences,
    item_ids_of,
    order_by,
    truncate,
    user_sequences,
)

ITEM_IDS = pa.array(list("abcde"))
ITEMS = (ITEM_IDS, np.zeros(5, np.int32))
Row = tuple[str, int, int]  # user, item, time
rows = st.lists(
    st.tuples(st.sampled_from("uvwé"), st.integers(0, 4), st.integers(-4, 4)), max_size=30
)


def interactions(rows: list[Row], rating: float = 1.0) -> pa.Table:
    users, items, times = zip(*rows, strict=True) if rows else ((), (), ())
    columns = [
        pa.array(users, pa.string()),
        pa.array(times, col.TIME_TYPE),
        pa.array([rating] * len(rows), pa.float32()),
        pa.array(items, pa.int32()),
    ]
    return pa.table(columns, schema=col.INTERACTIONS)


def expected(rows: list[Row]) -> list[tuple[str, list[tuple[int, int]]]]:
    """Return the (time, item) of each user in order."""

    def in_order(user: str) -> list[tuple[int, int]]:
        own = [(time, item) for name, item, time in rows if name == user]
        return sorted(own, key=lambda row: (row[0], tie_key(user, "abcde"[row[1]])))

    return [(user, in_order(user)) for user in sorted({row[0] for row in rows}, key=str.encode)]


def as_list(sequences: pa.Table) -> list[tuple[str, list[tuple[int, int]]]]:
    times = sequences["timestamps"].cast(pa.list_(pa.int64())).to_pylist()
    items = sequences["items"].to_pylist()
    pairs = [list(zip(*lists, strict=True)) for lists in zip(times, items, strict=True)]
    return list(zip(sequences["user_id"].to_pylist(), pairs, strict=True))


@given(rows, st.integers(1, 3))
def test_sequences_are_in_order_of_time_and_of_the_hash(rows: list[Row], batches: int) -> None:
    log = pa.concat_tables(interactions(rows[number::batches]) for number in range(batches))
    sequences = user_sequences(log, ITEM_IDS, seed=0)
    assert sequences.schema == col.SEQUENCES
    assert as_list(sequences) == expected(rows)


times = st.one_of(st.integers(0, 3), st.integers(-(2**62), 2**62))


@given(st.lists(st.tuples(st.integers(0, 2**31), times, st.integers(0, 3))))
def test_rows_are_ordered_by_user_time_and_item(rows: list[tuple[int, int, int]]) -> None:
    columns = np.array(rows, np.int64).reshape(-1, 3).T
    user, times, keys = columns
    order = order_by(user, times, lambda numbers: (keys[numbers],))
    assert [rows[number] for number in order] == sorted(rows)


def test_the_seed_decides_the_order_of_equal_times() -> None:
    log = interactions([("u", item, 1) for item in range(5)])
    orders = {str(user_sequences(log, ITEM_IDS, seed)["items"][0]) for seed in range(20)}
    assert len(orders) > 10


def test_the_order_of_equal_times_does_not_depend_on_other_items() -> None:
    log = [("u", item, 1) for item in range(3)]
    more = [("u", item + 1, 1) for item in range(3)]  # the same items after one that is new
    few = item_ids_of(user_sequences(interactions(log), pa.array(["b", "c", "d"]), 0), ITEM_IDS[1:])
    assert few.equals(item_ids_of(user_sequences(interactions(more), ITEM_IDS, 0), ITEM_IDS))


def test_item_ids_are_looked_up_in_the_catalogue() -> None:
    log = interactions([("t", 0, 1), ("u", 1, 2), ("u", 0, 3)])
    sequences = user_sequences(log, ITEM_IDS, seed=0)
    assert item_ids_of(sequences, pa.array(["a", "b"])).to_pylist() == [["a"], ["b", "a"]]
    assert item_ids_of(sequences.slice(1), pa.array(["a", "b"])).to_pylist() == [["b", "a"]]


def test_each_user_comes_out_once_with_what_was_liked() -> None:
    log = [("u", 1, 2), ("v", 3, 4), ("u", 0, 1)]
    tables = [interactions(log[:2], rating=3), interactions(log[2:], 3), interactions(log, 1)]
    found = run(
        lambda pipeline: {
            "tables": pipeline
            | beam.Create(tables).with_output_types(pa.Table)
            | SequenceParts(2.0, 0, pipeline | "Items" >> beam.Create([ITEMS]))
        }
    )["tables"]
    assert len(found) == PARTS
    found = [table for _, table in found]
    assert as_list(pa.concat_tables(found).sort_by("user_id")) == expected(log)


def test_parts_are_numbered_by_the_hash_of_their_users() -> None:
    log = interactions([(user, 0, 1) for user in "uvwé"])
    found = run(
        lambda pipeline: {
            "parts": pipeline
            | beam.Create([log]).with_output_types(pa.Table)
            | SequenceParts(None, 0, pipeline | "Items" >> beam.Create([ITEMS]))
        }
    )["parts"]
    assert sorted(part for part, _ in found) == list(range(PARTS))
    for part, table in found:
        assert set(shards_of(table["user_id"], PARTS)) <= {part}


def test_written_sequences_are_read_again(tmp_path: Path) -> None:
    log = interactions([("u", 1, 1), ("v", 0, 2), ("u", 0, 3), ("é", 1, 4)])
    items = (pa.array(["a", "b"]), np.array([0, 1], np.int32))
    made = run(
        lambda pipeline: {
            "parts": (
                parts := pipeline
                | beam.Create([log]).with_output_types(pa.Table)
                | SequenceParts(None, 0, catalogue := pipeline | "A" >> beam.Create([items]))
            ),
            "written": parts | WriteSequences(str(tmp_path), catalogue),
        }
    )
    assert sum(counts.written for counts in made["written"]) == 3
    read = run(
        lambda pipeline: {
            "parts": (
                parts := pipeline
                | ReadSequences(str(tmp_path), pipeline | "Items" >> beam.Create([items]))
            ),
            "counts": parts | CountSequences(),
        }
    )
    for (part, table), (again, other) in zip(
        sorted(made["parts"], key=lambda row: row[0]),
        sorted(read["parts"], key=lambda row: row[0]),
        strict=True,
    ):
        assert part == again
        assert table.equals(other)
    assert sum(counts.used for counts in read["counts"]) == 4


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=5), st.integers(0, 10))
def test_a_truncated_sequence_ends_before_the_cut(times: list[list[int]], cut: int) -> None:
    users = {f"u{at}": sorted(each) for at, each in enumerate(times) if each}
    table = pa.Table.from_pylist(
        [{"user_id": u, "timestamps": each, "items": each} for u, each in users.items()],
        schema=col.SEQUENCES,
    )
    expected = {u: kept for u, each in users.items() if (kept := [t for t in each if t < cut])}
    for some in (table, pa.concat_tables([table, table]).slice(len(users))):
        found = truncate(some, cut)
        assert (
            dict(zip(found["user_id"].to_pylist(), found["items"].to_pylist(), strict=True))
            == expected
        )
        assert found["timestamps"].cast(pa.list_(pa.int64())).to_pylist() == list(expected.values())
    assert truncate(table, None) is table


def test_sequences_of_other_items_are_refused(tmp_path: Path) -> None:
    log = interactions([("u", 0, 1), ("u", 1, 2)])
    of_two = (pa.array(["a", "b"]), np.array([0, 1], np.int32))
    of_one = (pa.array(["a"]), np.array([0], np.int32))
    run(
        lambda pipeline: {
            "written": pipeline
            | beam.Create([log]).with_output_types(pa.Table)
            | SequenceParts(None, 0, catalogue := pipeline | "Items" >> beam.Create([of_two]))
            | WriteSequences(str(tmp_path), catalogue)
        }
    )
    with pytest.raises(Exception, match="names items that the clusters do not have"):
        run(
            lambda pipeline: {
                "parts": pipeline
                | ReadSequences(str(tmp_path), pipeline | "Items" >> beam.Create([of_one]))
            }
        )
