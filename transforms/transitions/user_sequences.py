"""What each user engaged with, in order."""

from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from transforms import schemas as col
from transforms.inputs.filters import filter_engagements
from transforms.tables.shuffle import PARTS, ShardBy

ENGAGEMENTS = pa.schema(
    [col.INTERACTIONS.field(name) for name in (col.USER_ID, col.TIMESTAMP, col.ITEM)]
)
_KEY_BITS = 63


def user_sequences(interactions: pa.Table) -> pa.Table:
    """Return what each user engaged with, in order.

    Parameters
    ----------
    interactions
        ENGAGEMENTS in any order, all rows of each user.

    Returns
    -------
    SEQUENCES sorted by user, the items of each by (timestamp, item).
    """
    users = interactions[col.USER_ID].combine_chunks().dictionary_encode()
    rank = np.argsort(pc.sort_indices(users.dictionary).to_numpy())  # of each user by id
    user = rank[users.indices.to_numpy()]
    times = interactions[col.TIMESTAMP].cast(pa.int64()).to_numpy()
    items = interactions[col.ITEM].to_numpy()
    order = order_by(user, times, items)
    lengths = np.bincount(user, minlength=len(rank))
    offsets = pa.array(np.append(0, np.cumsum(lengths)).astype(np.int32))
    return pa.table(
        [
            users.dictionary.sort(),
            pa.ListArray.from_arrays(offsets, pa.array(times[order]).cast(col.TIME_TYPE)),
            pa.ListArray.from_arrays(offsets, pa.array(items[order])),
        ],
        schema=col.SEQUENCES,
    )


def order_by(user: np.ndarray, times: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return the order of rows by (user, time, item).

    Packs user and time into one integer, which NumPy sorts with vector instructions, and puts the
    few rows right that share both.

    Parameters
    ----------
    user, times, items
        [n] int64, int64 and int32, user >= 0.

    Returns
    -------
    [n] int64
    """
    if not len(user):
        return np.empty(0, np.int64)
    first, last = int(times.min()), int(times.max())
    time_bits = (last - first).bit_length()
    if int(user.max()).bit_length() + time_bits > _KEY_BITS:
        return np.lexsort((items, times, user))
    key = (user << time_bits) | (times - first)
    order = np.argsort(key)
    in_order = key[order]
    same = in_order[1:] == in_order[:-1]
    if same.any():
        tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
        rows = order[tied]
        order[tied] = rows[np.lexsort((items[rows], key[rows]))]
    return order


def item_ids_of(sequences: pa.Table, item_ids: pa.Array) -> pa.Array:
    """Return the ids of the items of SEQUENCES, [users] list<string>, for their catalogue."""
    items = sequences[col.ITEMS_OF_USER].combine_chunks()
    return pa.ListArray.from_arrays(items.offsets, item_ids.take(items.values))


@dataclass(eq=False)
class SequenceParts(beam.PTransform):
    """INTERACTIONS -> (part, SEQUENCES) of what users engage with: PARTS, each user in one."""

    min_rating: float | None

    def expand(
        self, interactions: beam.PCollection[pa.Table]
    ) -> beam.PCollection[tuple[int, pa.Table]]:
        return (
            interactions
            | "Engagements" >> beam.Map(self._engagements).with_output_types(pa.Table)
            | "ByUser" >> ShardBy(col.USER_ID, PARTS, ENGAGEMENTS)
            | "Order"
            >> beam.MapTuple(lambda part, table: (part, user_sequences(table))).with_output_types(
                tuple[int, pa.Table]
            )
        )

    def _engagements(self, interactions: pa.Table) -> pa.Table:
        engaged = filter_engagements(interactions, self.min_rating)
        Metrics.counter(SequenceParts, "interactions_not_positive").inc(
            interactions.num_rows - engaged.num_rows
        )
        return engaged.select(ENGAGEMENTS.names)


@dataclass(eq=False)
class UserSequences(beam.PTransform):
    """INTERACTIONS -> SEQUENCES: PARTS tables, each user in one."""

    min_rating: float | None

    def expand(self, interactions: beam.PCollection[pa.Table]) -> beam.PCollection[pa.Table]:
        return (
            interactions
            | SequenceParts(self.min_rating)
            | "Tables" >> beam.Values().with_output_types(pa.Table)
        )
