"""What each user engaged with, in order."""

from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import schemas as col
from transforms.validate import positive
from transforms.write_tables import ShardBy, map_shards

SEQUENCES = pa.schema({col.USER_ID: pa.string(), col.ITEM_IDS: pa.list_(pa.string())})
_ORDER = (col.USER_ID, col.TIMESTAMP, col.ITEM_ID)


def user_sequences(interactions: pa.Table) -> pa.Table:
    """Return the items of each user in order of (timestamp, item_id), oldest first.

    Parameters
    ----------
    interactions
        INTERACTIONS or a part of its columns, in any order, all rows of each user.

    Returns
    -------
    SEQUENCES, sorted by user.
    """
    table = interactions.sort_by([(name, "ascending") for name in _ORDER]).combine_chunks()
    users = table[col.USER_ID].combine_chunks()
    begins = np.ones(len(users), bool)
    if len(users) > 1:
        begins[1:] = pc.not_equal(users[1:], users[:-1]).to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(begins)
    offsets = np.append(starts, len(users)).astype(np.int32)
    items = table[col.ITEM_ID].combine_chunks()
    return pa.table(
        [users.take(pa.array(starts)), pa.ListArray.from_arrays(pa.array(offsets), items)],
        schema=SEQUENCES,
    )


@dataclass(eq=False)
class UserSequences(beam.PTransform):
    """INTERACTIONS -> (shard, SEQUENCES) of what users engage with; all of a user in one shard."""

    min_rating: float | None
    shards: int

    def expand(
        self, interactions: beam.PCollection[pa.Table]
    ) -> beam.PCollection[tuple[int, pa.Table]]:
        min_rating = self.min_rating
        return (
            interactions
            | "Positive"
            >> beam.Map(lambda table: positive(table, min_rating)).with_output_types(pa.Table)
            | "ByUser" >> ShardBy(col.USER_ID, self.shards, col.INTERACTIONS)
            | "Order" >> map_shards(user_sequences)
        )
