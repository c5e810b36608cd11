"""Batches split over shards by a hash that is the same on every machine and in every run."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def stable_hash(values: pa.Array | pa.ChunkedArray, seed: int = 0) -> np.ndarray:
    """Hash strings or integers with BLAKE2b.

    Parameters
    ----------
    values
        [n] strings or integers, no nulls.
    seed
        Another seed gives another hash.

    Returns
    -------
    [n] uint64
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    encoded = values.dictionary_encode()  # each distinct value is hashed once
    salt = seed.to_bytes(8, "little", signed=True)
    hashes = np.fromiter(
        (
            int.from_bytes(
                hashlib.blake2b(str(value).encode(), digest_size=8, salt=salt).digest(), "little"
            )
            for value in encoded.dictionary.to_pylist()
        ),
        dtype=np.uint64,
        count=len(encoded.dictionary),
    )
    return hashes[encoded.indices.to_numpy(zero_copy_only=False)]


def split_by_hash(table: pa.Table, column: str, shards: int) -> Iterator[tuple[int, pa.Table]]:
    """Split a table so that equal values of a column go to the same shard.

    Yields
    ------
    (shard in 0..shards-1, rows), for the shards that get any.
    """
    if not table.num_rows:
        return
    shard = (stable_hash(table[column]) % np.uint64(shards)).astype(np.int64)
    for number in np.unique(shard):
        yield int(number), table.filter(pa.array(shard == number))


def concat_sorted(tables: list[pa.Table], columns: list[str]) -> pa.Table:
    """Concatenate the tables of a shard and sort them by columns, if any are given."""
    table = pa.concat_tables(tables)
    if not columns:
        return table.combine_chunks()
    order = pc.sort_indices(table, sort_keys=[(column, "ascending") for column in columns])
    return table.take(order).combine_chunks()


def mix(integers: np.ndarray, seed: int) -> np.ndarray:
    """Hash integers with SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).

    Parameters
    ----------
    integers
        [n], taken as uint64.
    seed
        Another seed gives another hash.

    Returns
    -------
    [n] uint64
    """
    increment = (0x9E3779B97F4A7C15 * (seed % (1 << 64) + 1)) % (1 << 64)
    with np.errstate(over="ignore"):
        value = integers.astype(np.uint64) + np.uint64(increment)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))
