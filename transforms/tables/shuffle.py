"""Groups rows by key, in memory or through files.

A distributed runner shuffles on disk. A runner in process groups in memory: with --shuffle_folder
it groups the names of files on this machine, and not the rows.
"""

import argparse
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions

from transforms.tables.sharding import concat_sorted, split_by_hash

# Parts of a shuffle, each processed as a whole: 16 million rows of a billion interactions, 160 MB
# of ten million embeddings of 256 dimensions.
PARTS = 64


class ShuffleOptions(PipelineOptions):
    """How rows are shuffled."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--shuffle_folder",
            help="folder on this machine for the rows that are shuffled, when the pipeline runs in "
            "process (default: a folder of the workspace, or of the system for one at gs://)",
        )


@dataclass(frozen=True)
class Spilled:
    """A table in a file of this machine."""

    path: str  # of an Arrow IPC file
    batch: int  # number of the record batch with the rows

    def read(self) -> pa.Table:
        """Map the rows into memory; they are read from the disk on access."""
        with pa.memory_map(self.path) as file:
            return pa.Table.from_batches([pa.ipc.open_file(file).get_batch(self.batch)])


def spill(tables: Iterable[pa.Table], folder: str) -> list[Spilled]:
    """Write tables of one schema to one file."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"{uuid.uuid4().hex}.arrow")
    spilled: list[Spilled] = []
    writer = None
    for table in tables:
        writer = writer or pa.ipc.new_file(path, table.schema)
        columns = [column.combine_chunks() for column in table.columns]
        writer.write_batch(pa.record_batch(columns, schema=table.schema))
        spilled.append(Spilled(path, len(spilled)))
    if writer is not None:
        writer.close()
    return spilled


Kept: TypeAlias = pa.Table | Spilled


def table_of(kept: Kept) -> pa.Table:
    """Return a table that `Spill` kept."""
    return kept.read() if isinstance(kept, Spilled) else kept


def _folder_and_type(tables: beam.PCollection) -> tuple[str | None, Any]:
    """Return the folder for spilled tables, if any, and the type of (key, Kept)."""
    folder = tables.pipeline.options.view_as(ShuffleOptions).shuffle_folder
    # Tables have a coder of their own; a mix of tables and file names has not.
    return folder, tuple[int, pa.Table] if folder is None else tuple[int, Any]


@dataclass(eq=False)
class Spill(beam.PTransform):
    """(key, table) -> (key, Kept), for tables that wait for a side input or are read twice.

    They wait in files if there is a folder for spilled tables, and otherwise in memory.
    """

    def expand(self, tables: beam.PCollection[tuple[int, pa.Table]]) -> beam.PCollection:
        folder, kept_type = _folder_and_type(tables)
        return tables | beam.MapTuple(
            lambda key, table: (key, table if folder is None else spill([table], folder)[0])
        ).with_output_types(kept_type)


@dataclass(eq=False)
class ShardBy(beam.PTransform):
    """Tables -> one (shard, table) for each shard; rows with equal keys share a shard.

    Rows are sorted by `sort_by`, and in any order without it. Empty shards come out too, so that a
    stage always writes the same files.
    """

    column: str
    shards: int
    schema: pa.Schema
    sort_by: tuple[str, ...] = ()

    def expand(self, tables: beam.PCollection[pa.Table]) -> beam.PCollection[tuple[int, pa.Table]]:
        folder, keyed_type = _folder_and_type(tables)
        keyed = tables | "Split" >> beam.FlatMap(self._split, folder).with_output_types(keyed_type)
        empty = tables.pipeline | "AllShards" >> beam.Create(
            [(shard, self.schema.empty_table()) for shard in range(self.shards)]
        ).with_output_types(keyed_type)
        return (
            (keyed, empty)
            | beam.Flatten()
            | "Group" >> beam.GroupByKey()
            | "Sort" >> beam.MapTuple(self._sort).with_output_types(tuple[int, pa.Table])
        )

    def _split(self, table: pa.Table, folder: str | None) -> Iterator[tuple[int, Kept]]:
        split = split_by_hash(table, self.column, self.shards)
        if folder is None:
            yield from split
        else:
            shards, parts = zip(*split, strict=True) if table.num_rows else ((), ())
            yield from zip(shards, spill(parts, folder), strict=True)

    def _sort(self, shard: int, parts: Iterable[Kept]) -> tuple[int, pa.Table]:
        return shard, concat_sorted(list(map(table_of, parts)), list(self.sort_by))


@dataclass(eq=False)
class GatherTables(beam.PTransform):
    """Tables -> one sorted table with all rows, which must fit on one worker."""

    schema: pa.Schema
    sort_by: tuple[str, ...]

    def expand(self, tables: beam.PCollection[pa.Table]) -> beam.PCollection[pa.Table]:
        empty = tables.pipeline | "Empty" >> beam.Create([self.schema.empty_table()])
        return (
            (tables, empty)
            | beam.Flatten()
            | "Key" >> beam.Map(lambda table: (0, table)).with_output_types(tuple[int, pa.Table])
            | "Group" >> beam.GroupByKey()
            | "Sort"
            >> beam.MapTuple(
                lambda _, parts: concat_sorted(list(parts), list(self.sort_by))
            ).with_output_types(pa.Table)
        )
