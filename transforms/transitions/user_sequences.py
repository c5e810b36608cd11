"""The sequences of users: their engagements in order, mined once and read by later stages."""

from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from transforms import schemas as col
from transforms.errors import InputError
from transforms.inputs.filters import filter_engagements
from transforms.storage import files
from transforms.storage.manifest import RowCounts
from transforms.tables.shuffle import PARTS, ShardBy
from transforms.tables.write_tables import WriteShards, shard_file

ENGAGEMENTS = pa.schema(
    [col.INTERACTIONS.field(name) for name in (col.USER_ID, col.TIMESTAMP, col.ITEM)]
)
_KEY_BITS = 63
_FOLDER = "sequences"  # in the folder of the stage


def user_sequences(interactions: pa.Table) -> pa.Table:
    """Return the SEQUENCES of ENGAGEMENTS, sorted by user, and per user by (timestamp, item)."""
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
    """Return the order [n] of rows by (user, time, item), for user [n] >= 0.

    User and time are packed into one integer, which NumPy sorts with vector instructions; the few
    rows that share both are sorted afterwards.
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
class WriteSequences(beam.PTransform):
    """Writes (part, SEQUENCES) of all PARTS to `<folder>/sequences`, for `ReadSequences`."""

    folder: str
    item_clusters: beam.PCollection

    def expand(self, parts: beam.PCollection[tuple[int, pa.Table]]) -> beam.PCollection[RowCounts]:
        return (
            parts
            | "ItemIds"
            >> beam.Map(
                _with_item_ids, beam.pvalue.AsSingleton(self.item_clusters)
            ).with_output_types(tuple[int, pa.Table])
            | "Write" >> WriteShards(self.folder, _FOLDER, PARTS)
        )


def _with_item_ids(
    numbered: tuple[int, pa.Table], item_clusters: tuple[pa.Array, np.ndarray]
) -> tuple[int, pa.Table]:
    part, sequences = numbered
    item_ids = item_ids_of(sequences, item_clusters[0])
    columns = [sequences[col.USER_ID], item_ids, sequences[col.TIMESTAMPS]]
    return part, pa.table(columns, schema=col.USER_SEQUENCES)


@dataclass(eq=False)
class ReadSequences(beam.PTransform):
    """Reads what `WriteSequences` wrote, as (part, SEQUENCES) for the items of `item_clusters`."""

    folder: str
    item_clusters: beam.PCollection

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[tuple[int, pa.Table]]:
        return (
            begin
            | "Parts" >> beam.Create(range(PARTS))
            | "Spread" >> beam.Reshuffle()
            | "Read"
            >> beam.Map(
                _read_part, self.folder, beam.pvalue.AsSingleton(self.item_clusters)
            ).with_output_types(tuple[int, pa.Table])
        )


def _read_part(
    part: int, folder: str, item_clusters: tuple[pa.Array, np.ndarray]
) -> tuple[int, pa.Table]:
    path = files.join(folder, _FOLDER, shard_file(part, PARTS))
    table = files.read_parquet(path, col.USER_SEQUENCES)
    ids = table[col.ITEM_IDS].combine_chunks()
    items = pc.index_in(ids.flatten(), value_set=item_clusters[0])
    if items.null_count:  # the clusters were built again while this job runs
        raise InputError(
            f"{path} names items that the clusters do not have; run `python -m "
            "pipelines.mine_transitions` again, or pipelines.explore for all"
        )
    columns = [
        table[col.USER_ID],
        table[col.TIMESTAMPS],
        pa.ListArray.from_arrays(pc.subtract(ids.offsets, ids.offsets[0]), items),
    ]
    return part, pa.table(columns, schema=col.SEQUENCES).combine_chunks()


@dataclass(eq=False)
class CountSequences(beam.PTransform):
    """(part, SEQUENCES) -> RowCounts of their engagements: all are used."""

    def expand(self, parts: beam.PCollection[tuple[int, pa.Table]]) -> beam.PCollection[RowCounts]:
        return parts | beam.MapTuple(lambda _, sequences: _count(sequences))


def _count(sequences: pa.Table) -> RowCounts:
    engagements = pc.sum(pc.list_value_length(sequences[col.ITEMS_OF_USER])).as_py() or 0
    return RowCounts(read=engagements, used=engagements)


def truncate(sequences: pa.Table, cut: int | None) -> pa.Table:
    """Keep the engagements of SEQUENCES before a cut, in microseconds since 1970.

    Users without any are left out; None keeps everything.
    """
    if cut is None or not sequences.num_rows:
        return sequences
    times = sequences[col.TIMESTAMPS].combine_chunks()
    kept = times.flatten().cast(pa.int64()).to_numpy() < cut
    offsets = (times.offsets.to_numpy() - times.offsets[0].as_py()).astype(np.int64)
    ends = np.append(0, np.cumsum(kept))[offsets].astype(np.int32)  # times are in order
    users = pa.array(np.diff(ends) > 0)
    chosen = pa.array(kept)
    columns = [
        pa.ListArray.from_arrays(
            pa.array(ends), sequences[name].combine_chunks().flatten().filter(chosen)
        )
        for name in (col.TIMESTAMPS, col.ITEMS_OF_USER)
    ]
    return pa.table([sequences[col.USER_ID], *columns], schema=col.SEQUENCES).filter(users)
