"""The sequences of users: their engagements in order, mined once and read by later stages."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from models.common.hashing import mix
from transforms import schemas as col
from transforms.errors import InputError
from transforms.inputs.filters import filter_engagements
from transforms.storage import files
from transforms.storage.manifest import RowCounts
from transforms.tables.sharding import stable_hash
from transforms.tables.shuffle import PARTS, ShardBy
from transforms.tables.write_tables import WriteShards, shard_file

ENGAGEMENTS = pa.schema(
    [col.INTERACTIONS.field(name) for name in (col.USER_ID, col.TIMESTAMP, col.ITEM)]
)
_KEY_BITS = 63
_FOLDER = "sequences"  # in the folder of the stage


def user_sequences(interactions: pa.Table, item_ids: pa.Array, seed: int) -> pa.Table:
    """Return the SEQUENCES of ENGAGEMENTS, sorted by user, and per user by time.

    Engagements of a user at the same time are in the order of a seeded hash of (user_id, item_id):
    in the order of item ids, a log of dates would teach that interests follow their ids.
    `item_ids` [items] are those of the catalogue.
    """
    users = interactions[col.USER_ID].combine_chunks().dictionary_encode()
    rank = np.argsort(pc.sort_indices(users.dictionary).to_numpy())  # of each user by id
    user = rank[users.indices.to_numpy()]
    times = interactions[col.TIMESTAMP].cast(pa.int64()).to_numpy()
    items = interactions[col.ITEM].to_numpy()

    def tie_keys(rows: np.ndarray) -> tuple[np.ndarray, ...]:
        of_users = stable_hash(users.dictionary.take(users.indices.take(pa.array(rows))), seed)
        of_items = stable_hash(item_ids.take(pa.array(items[rows])), seed)
        return items[rows], mix(of_users ^ mix(of_items, seed), seed)

    order = order_by(user, times, tie_keys)
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


def order_by(
    user: np.ndarray,
    times: np.ndarray,
    tie_keys: Callable[[np.ndarray], tuple[np.ndarray, ...]],
) -> np.ndarray:
    """Return the order [n] of rows by (user, time), for user [n] >= 0.

    User and time are packed into one integer, which NumPy sorts with vector instructions; the few
    rows that share both are sorted afterwards, by the keys (as of np.lexsort) of their numbers.
    """
    if not len(user):
        return np.empty(0, np.int64)
    if int(user.max()).bit_length() + _bits(times) > _KEY_BITS:
        times = np.unique(times, return_inverse=True)[1]
    key = (user << _bits(times)) | (times - times.min())
    order = np.argsort(key)
    in_order = key[order]
    same = in_order[1:] == in_order[:-1]
    if same.any():
        tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
        rows = order[tied]
        order[tied] = rows[np.lexsort((*tie_keys(rows), key[rows]))]
    return order


def _bits(times: np.ndarray) -> int:
    """Return the number of bits of the difference of two times."""
    return (int(times.max()) - int(times.min())).bit_length()


def item_ids_of(sequences: pa.Table, item_ids: pa.Array) -> pa.Array:
    """Return the ids of the items of SEQUENCES, [users] list<string>, for their catalogue."""
    items = sequences[col.ITEMS_OF_USER].combine_chunks()
    return pa.ListArray.from_arrays(items.offsets, item_ids.take(items.values))


@dataclass(eq=False)
class SequenceParts(beam.PTransform):
    """INTERACTIONS -> (part, SEQUENCES) of what users engage with: PARTS, each user in one."""

    min_rating: float | None
    seed: int  # of the order of engagements at the same time
    item_clusters: beam.PCollection  # one tuple that begins with the ids of the catalogue's items

    def expand(
        self, interactions: beam.PCollection[pa.Table]
    ) -> beam.PCollection[tuple[int, pa.Table]]:
        return (
            interactions
            | "Engagements" >> beam.Map(self._engagements).with_output_types(pa.Table)
            | "ByUser" >> ShardBy(col.USER_ID, PARTS, ENGAGEMENTS)
            | "Order"
            >> beam.Map(self._order, beam.pvalue.AsSingleton(self.item_clusters)).with_output_types(
                tuple[int, pa.Table]
            )
        )

    def _order(
        self, numbered: tuple[int, pa.Table], item_clusters: tuple[pa.Array, Any]
    ) -> tuple[int, pa.Table]:
        part, engagements = numbered
        return part, user_sequences(engagements, item_clusters[0], self.seed)

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
