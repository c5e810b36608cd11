"""Row groups of the shards, and whose catalogue they are of."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.retrieval.item_catalogue import Catalogue
from models.retrieval.training.sequence_shards import SHARD, cut_into_groups, row_groups
from tests.models.retrieval.small_retriever import catalogue, ring, write_shards


@given(st.lists(st.integers(1, 9)), st.integers(1, 12))
def test_groups_hold_all_users_in_order_and_are_bounded(lengths: list[int], most: int) -> None:
    sevens = [[7] * length for length in lengths]
    rows = pa.table([range(len(lengths)), sevens, sevens], schema=SHARD)
    groups = list(cut_into_groups(rows, most))
    assert pa.concat_tables([SHARD.empty_table(), *groups]).equals(rows)
    for group in groups:
        items = [len(row) for row in group["items"].to_pylist()]
        assert items
        assert sum(items[:-1]) < most


@settings(deadline=None)  # files are written
@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), max_size=9))
def test_row_groups_are_those_written(users: list[list[int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = write_shards(Path(folder), [np.array(u) for u in users], shards=1, group_items=5)
        groups = row_groups(paths, catalogue().vocabulary)
        read = [group.read()["items"].to_pylist() for group in groups]
    assert [row for rows in read for row in rows] == users
    assert [group.items for group in groups] == [sum(map(len, rows)) for rows in read]


def other_clusters() -> Catalogue:
    same = catalogue()
    return Catalogue(same.item_ids, same.clusters[::-1].copy(), same.eligible)


@pytest.mark.parametrize("other", [catalogue(41), other_clusters()])
def test_shards_of_another_catalogue_are_refused(tmp_path: Path, other: Catalogue) -> None:
    paths = write_shards(tmp_path, ring())
    with pytest.raises(ValueError, match=r"0\.parquet are of other items or clusters"):
        row_groups(paths, other.vocabulary)


def test_a_file_that_is_no_shard_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "x.parquet")
    pa.parquet.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(ValueError, match="vocabulary unknown"):
        row_groups([path], catalogue().vocabulary)
