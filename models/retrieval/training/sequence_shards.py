"""The users' sequences in Parquet shards: workers write them, the training reads them.

A row is a user with at least one item. Row groups are bounded: a reader needs memory for one of
them, for any number of users. Shards carry the fingerprint of the catalogue of their items.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

KEY = "key"  # a seeded hash of the user's id, >= 0: it chooses the validation users
ITEMS = "items"  # indices in the catalogue, oldest first
TIMES = "times"  # of each item, microseconds since 1970
SHARD = pa.schema({KEY: pa.int64(), ITEMS: pa.list_(pa.int32()), TIMES: pa.list_(pa.int64())})
GROUP_ITEMS = 1 << 18
_VOCABULARY = b"vocabulary"


def shard_schema(vocabulary: str) -> pa.Schema:
    """Return the schema of shards whose items are of the catalogue with this fingerprint."""
    return SHARD.with_metadata({_VOCABULARY: vocabulary})


def cut_into_groups(rows: pa.Table, most: int = GROUP_ITEMS) -> Iterator[pa.Table]:
    """Cut a SHARD into the tables that become its row groups.

    The items of a user stay together. Without its last user, a group has fewer than `most` items.
    """
    lengths = pc.list_value_length(rows[ITEMS]).to_numpy()
    block = (np.cumsum(lengths) - lengths) // most  # [users], in which a user begins
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    for start, stop in itertools.pairwise([*starts, len(block)]):
        yield rows.slice(start, stop - start)


@dataclass(frozen=True)
class RowGroup:
    """A row group of a local shard."""

    path: str
    number: int
    items: int  # in all rows together

    def read(self) -> pa.Table:
        """Return its rows, a SHARD."""
        with pq.ParquetFile(self.path) as file:
            return file.read_row_group(self.number, use_threads=False)


def row_groups(paths: Sequence[str], vocabulary: str) -> list[RowGroup]:
    """List the row groups of shards.

    Raises ValueError if a shard is not of the catalogue with the fingerprint `vocabulary`.
    """
    found = []
    for path in paths:
        with pq.ParquetFile(path) as file:
            of_shard = (file.schema_arrow.metadata or {}).get(_VOCABULARY, b"").decode()
            if of_shard != vocabulary:
                raise ValueError(
                    f"the sequences in {path} are of other items or clusters (vocabulary "
                    f"{of_shard[:8] or 'unknown'}) than the catalogue ({vocabulary[:8]}): build "
                    "both from the same clusters and level"
                )
            for number in range(file.num_row_groups):
                items = file.metadata.row_group(number).column(1).num_values
                found.append(RowGroup(path, number, items))
    return found
