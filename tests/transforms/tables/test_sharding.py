"""Hashes and shards, and the coder that carries tables between them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.common.hashing import mix
from transforms.tables.arrow_coder import ArrowTableCoder
from transforms.tables.sharding import concat_sorted, split_by_hash, stable_hash

ids = st.lists(st.text(max_size=20), max_size=30)


def table(values: list[str]) -> pa.Table:
    return pa.table({"id": pa.array(values, pa.string()), "row": range(len(values))})


def hash_of(value: str, seed: int) -> int:
    """Hash one string, in Python's integers."""
    encoded = value.encode()
    hashed = splitmix64(len(encoded), seed)
    for begin in range(0, min(len(encoded), 128), 8):
        word = int.from_bytes(encoded[begin : begin + 8], "little")
        hashed = splitmix64(hashed ^ word, seed)
    return hashed


@given(ids, st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_the_hash_is_that_of_each_value_alone(values: list[str], seed: int, start: int) -> None:
    hashed = stable_hash(pa.array(values, pa.string())[start:], seed)
    assert hashed.tolist() == [hash_of(value, seed) for value in values[start:]]


def test_long_values_that_begin_alike_are_told_apart_by_their_length() -> None:
    first, second, longer = "x" * 127 + "abc", "x" * 127 + "ayz", "x" * 127 + "abcd"
    hashes = stable_hash(pa.array([first, second, longer]))
    assert hashes.tolist() == [hash_of(value, 0) for value in (first, second, longer)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_hash_does_not_depend_on_chunks() -> None:
    chunked = pa.chunked_array([["a", "b"], [], ["a"]], pa.string())
    assert stable_hash(chunked).tolist() == stable_hash(pa.array(["a", "b", "a"])).tolist()


def test_integers_are_mixed() -> None:
    assert stable_hash(pa.array([12, 3]), 5).tolist() == mix(np.array([12, 3]), 5).tolist()


def test_another_seed_gives_another_hash() -> None:
    values = pa.array(["a", "b"])
    assert not np.any(stable_hash(values, 0) == stable_hash(values, 1))


@given(ids, st.integers(1, 5))
def test_every_row_goes_to_one_shard_and_equal_values_to_the_same(
    values: list[str], shards: int
) -> None:
    split = list(split_by_hash(table(values), "id", shards))
    assert [shard for shard, _ in split] == sorted({shard for shard, _ in split})
    assert all(0 <= shard < shards and part.num_rows for shard, part in split)
    rows = [row for _, part in split for row in part.to_pylist()]
    assert sorted(rows, key=lambda row: row["row"]) == table(values).to_pylist()
    shards_of = [(value, shard) for shard, part in split for value in set(part["id"].to_pylist())]
    assert len(shards_of) == len(set(values))


@given(ids, st.randoms(), st.integers(1, 4))
def test_sorting_forgets_the_order_and_the_parts(values: list[str], random, parts: int) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    tables = [pa.table({"id": pa.array(shuffled[n::parts], pa.string())}) for n in range(parts)]
    expected = sorted(values, key=str.encode)  # Arrow compares bytes
    assert concat_sorted(tables, ["id"])["id"].to_pylist() == expected


def splitmix64(value: int, seed: int) -> int:
    """Return the seed-th step beyond a state, in Python's integers."""
    mask = (1 << 64) - 1
    value = (value + 0x9E3779B97F4A7C15 * (seed + 1)) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


@given(st.lists(st.integers(0, 2**63 - 1), max_size=20), st.integers(0, 2**32 - 1))
def test_mixing_is_splitmix64(values: list[int], seed: int) -> None:
    mixed = mix(np.array(values, np.int64), seed)
    assert mixed.tolist() == [splitmix64(value, seed) for value in values]


def test_mixing_agrees_with_the_published_generator() -> None:
    # First output of SplitMix64 started at 0, as in the reference implementation's tests.
    assert mix(np.array([0]), 0).tolist() == [0xE220A8397B1DCDAF]


@pytest.mark.parametrize("start", [0, 3])
def test_the_coder_carries_the_rows_of_a_slice_alone(start: int) -> None:
    whole = pa.table({"id": ["é"] * 10_000, "list": [[1.0], None] * 5_000})
    part = whole.slice(start, 4)
    encoded = ArrowTableCoder().encode(part)
    assert ArrowTableCoder().decode(encoded).equals(part)
    assert len(encoded) < 2_000


def test_the_coder_carries_a_table_without_rows() -> None:
    empty = pa.schema({"id": pa.string()}).empty_table()
    assert ArrowTableCoder().decode(ArrowTableCoder().encode(empty)) == empty
