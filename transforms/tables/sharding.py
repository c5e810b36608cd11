"""Splits tables into shards, by a hash that is the same on every machine and in every run."""

import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.common.hashing import mix

_WORD = 8
_HASHED_BYTES = 128


def stable_hash(values: pa.Array | pa.ChunkedArray, seed: int = 0) -> np.ndarray:
    """Hash strings or integers [n], without nulls, to [n] uint64.

    Only the length and the first 128 bytes of a string count, eight bytes at a time with `mix`.
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if not pa.types.is_string(values.type):
        return mix(values.to_numpy(), seed)
    _, offsets, data = values.buffers()
    starts = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    lengths = np.diff(starts)
    hashes = mix(lengths, seed)
    content = np.zeros((data.size if data else 0) + _WORD, np.uint8)
    content[:-_WORD] = np.frombuffer(data or b"", np.uint8)
    # [bytes] the word of eight bytes from each byte on
    words = np.ndarray(len(content) - _WORD + 1, "<u8", content, strides=(1,))
    longer = np.arange(len(values))
    for begin in range(0, min(int(lengths.max(initial=0)), _HASHED_BYTES), _WORD):
        longer = longer[lengths[longer] > begin]
        word = words[starts[longer] + begin]
        beyond = _WORD - np.minimum(lengths[longer] - begin, _WORD)  # bytes of the next string
        kept = np.uint64(0xFFFFFFFFFFFFFFFF) >> (8 * beyond).astype(np.uint64)
        hashes[longer] = mix(hashes[longer] ^ (word & kept), seed)
    return hashes


def shards_of(values: pa.Array | pa.ChunkedArray, shards: int) -> np.ndarray:
    """Return the shard of each string or integer [n], without nulls: [n] unsigned integers."""
    shard = stable_hash(values) % np.uint64(shards)
    return shard.astype(np.uint16 if shards <= 1 << 16 else np.uint32)  # NumPy is fast at 16 bits


def split_by_hash(table: pa.Table, column: str, shards: int) -> Iterator[tuple[int, pa.Table]]:
    """Yield (shard, its rows in order) for each shard with rows, by the hash of a column."""
    if not table.num_rows:
        return
    shard = shards_of(table[column], shards)
    order = np.argsort(shard, kind="stable")
    (rows,) = table.combine_chunks().to_batches()
    by_shard = pa.Table.from_batches([rows.take(pa.array(order))])
    ends = np.cumsum(np.bincount(shard, minlength=shards))
    for number, (start, stop) in enumerate(itertools.pairwise([0, *ends.tolist()])):
        if stop > start:
            yield number, by_shard.slice(start, stop - start)


def concat_sorted(tables: list[pa.Table], columns: list[str]) -> pa.Table:
    """Concatenate tables, and sort the rows by columns, if any are given."""
    table = pa.concat_tables(tables)
    if not columns:
        return table.combine_chunks()
    order = pc.sort_indices(table, sort_keys=[(column, "ascending") for column in columns])
    return table.take(order).combine_chunks()
