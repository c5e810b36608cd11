"""The sequences of users in Parquet shards, from the workers that write them to the training.

A row is a user with at least one item. Row groups are bounded, so that whoever reads a shard needs
memory for one of them, however many users there are. Shards carry the fingerprint of the catalogue
that their positions refer to.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

KEY = "key"  # a seeded hash of the user's id, >= 0: decides who is held out for validation
ITEMS = "items"  # positions in the catalogue, oldest first
SHARD = pa.schema({KEY: pa.int64(), ITEMS: pa.list_(pa.int32())})
GROUP_ITEMS = 1 << 18
_VOCABULARY = b"vocabulary"


def shard_schema(vocabulary: str) -> pa.Schema:
    """Return the schema of shards whose positions are of a catalogue with this fingerprint."""
    return SHARD.with_metadata({_VOCABULARY: vocabulary})


def cut_into_groups(rows: pa.Table, most: int = GROUP_ITEMS) -> Iterator[pa.Table]:
    """Cut a SHARD into the tables that become its row groups.

    The items of a user stay together. Without those of its last user a group has fewer than
    `most`.
    """
    lengths = pc.list_value_length(rows[ITEMS]).to_numpy()
    block = (np.cumsum(lengths) - lengths) // most  # [users], the one that a user begins in
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    for start, stop in itertools.pairwise([*starts, len(block)]):
        yield rows.slice(start, stop - start)


@dataclass(frozen=True)
class RowGroup:
    """A row group of a local shard.

    Attributes
    ----------
    path
        Of the shard.
    number
        Of the row group in it.
    items
        In all its rows together.
    """

    path: str
    number: int
    items: int

    def read(self) -> pa.Table:
        """Decode it."""
        with pq.ParquetFile(self.path) as file:
            return file.read_row_group(self.number, use_threads=False)


def row_groups(paths: Sequence[str], vocabulary: str) -> list[RowGroup]:
    """List the row groups of shards.

    Raises
    ------
    ValueError
        If a shard is of another catalogue than that with the fingerprint `vocabulary`.
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
