"""Writes tables in shards. Names and bytes of the files depend on the rows only."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics

from transforms import schemas as col
from transforms.errors import InputError
from transforms.storage import files
from transforms.storage.manifest import RowCounts, StagePlan, parse, write_manifest
from transforms.tables.combiners import SumFn
from transforms.tables.shuffle import ShardBy


def shard_file(shard: int, shards: int, kind: str = "parquet") -> str:
    """Return the file name of a shard."""
    return f"part-{shard:05d}-of-{shards:05d}.{kind}"


@dataclass(eq=False)
class WriteTable(beam.PTransform):
    """Writes the single table of a PCollection to `<folder>/<name>`."""

    folder: str
    name: str

    def expand(self, table: beam.PCollection[pa.Table]) -> beam.PCollection[RowCounts]:
        return table | beam.Map(self._write)

    def _write(self, table: pa.Table) -> RowCounts:
        Metrics.counter(WriteTable, "rows_written").inc(table.num_rows)
        record = files.write_parquet(self.folder, self.name, table)
        return RowCounts(written=table.num_rows, files=(record,))


@dataclass(eq=False)
class WriteShards(beam.PTransform):
    """Writes (shard, table) to `<folder>/<name>/part-<shard>-of-<shards>.parquet`."""

    folder: str
    name: str  # relative to the folder of the stage; "" for the folder itself
    shards: int

    def expand(
        self, sharded: beam.PCollection[tuple[int, pa.Table]]
    ) -> beam.PCollection[RowCounts]:
        return sharded | beam.MapTuple(self._write)

    def _write(self, shard: int, table: pa.Table) -> RowCounts:
        Metrics.counter(WriteShards, "rows_written").inc(table.num_rows)
        file = shard_file(shard, self.shards)
        name = f"{self.name}/{file}" if self.name else file
        record = files.write_parquet(self.folder, name, table)
        return RowCounts(written=table.num_rows, files=(record,))


@dataclass(eq=False)
class WriteItems(beam.PTransform):
    """Writes the columns of a schema for all items, in shards by item_id."""

    folder: str
    name: str
    shards: int
    schema: pa.Schema

    def expand(self, items: beam.PCollection[pa.Table]) -> beam.PCollection[RowCounts]:
        columns = self.schema.names
        return (
            items
            | "Columns" >> beam.Map(lambda table: table.select(columns)).with_output_types(pa.Table)
            | "ById" >> ShardBy(col.ITEM_ID, self.shards, self.schema, (col.ITEM_ID,))
            | "Write" >> WriteShards(self.folder, self.name, self.shards)
        )


@dataclass(eq=False)
class WriteDeadLetter(beam.PTransform):
    """Writes DEAD_ROWS to `<folder>/part-<shard>-of-<shards>.jsonl`, and counts them."""

    folder: str
    shards: int

    def expand(self, dead: beam.PCollection[pa.Table]) -> beam.PCollection[RowCounts]:
        return (
            dead
            | ShardBy("line", self.shards, col.DEAD_ROWS, ("line", "reason"))
            | "Write" >> beam.MapTuple(self._write)
        )

    def _write(self, shard: int, dead: pa.Table) -> RowCounts:
        if not dead.num_rows:
            return RowCounts()
        lines = "".join(f"{line}\n" for line in dead["line"].to_pylist())
        name = shard_file(shard, self.shards, "jsonl")
        files.write_bytes(files.join(self.folder, name), lines.encode())
        return RowCounts(dead=dead.num_rows, reasons=Counter(dead["reason"].to_pylist()))


@dataclass(eq=False)
class WriteManifest(beam.PTransform):
    """Writes the manifest of a stage, once all its RowCounts are there; see `write_manifest`.

    InputError if a later run of the stage has begun: the files may be of both.
    """

    folder: str
    plan: StagePlan
    packages: dict[str, str]
    started: float  # seconds since 1970
    note: str  # file in which the latest run of the stage noted when it started

    def expand(self, counts: beam.PCollection[RowCounts]) -> beam.PCollection[RowCounts]:
        return counts | beam.CombineGlobally(SumFn(RowCounts)) | "Write" >> beam.Map(self._write)

    def _write(self, counts: RowCounts) -> RowCounts:
        # A job that was launched and not waited for holds no lock.
        if (parse(files.read_if_there(self.note)) or {}).get("started") != self.started:
            raise InputError(
                f"another run of {self.plan.pipeline} began in {self.folder} after this one, which "
                "ends without a manifest; wait for the other one"
            )
        write_manifest(self.folder, self.plan, self.packages, self.started, counts)
        return counts


def map_shards(function: Callable[[pa.Table], pa.Table]) -> beam.PTransform:
    """Apply a function to the table of each (shard, table)."""
    return beam.MapTuple(lambda shard, table: (shard, function(table))).with_output_types(
        tuple[int, pa.Table]
    )


@dataclass(eq=False)
class RequireRows(beam.PTransform):
    """Raises an InputError if no (shard, table) has a row."""

    otherwise: str  # the message
    after: beam.PCollection  # whose errors explain more, and come first

    def expand(
        self, sharded: beam.PCollection[tuple[int, pa.Table]]
    ) -> beam.PCollection[RowCounts]:
        return (
            sharded
            | "Count" >> beam.MapTuple(lambda _, table: table.num_rows)
            | "Sum" >> beam.CombineGlobally(SumFn(int))
            | "Check" >> beam.Map(self._check, beam.pvalue.AsList(self.after))
        )

    def _check(self, rows: int, _: list[RowCounts]) -> RowCounts:
        if not rows:
            raise InputError(self.otherwise)
        return RowCounts()
