"""Tables written in shards whose names and bytes depend on their content alone."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics

from transforms import files
from transforms import schemas as col
from transforms.errors import InputError
from transforms.manifest import Tally
from transforms.sharding import concat_sorted, split_by_hash


@dataclass(eq=False)
class ShardBy(beam.PTransform):
    """Tables -> (shard, table), one for each shard: all rows with equal keys.

    Rows are sorted by `sort_by`; without it they come in any order, for those who sort themselves.

    Every shard comes out, those without rows too, so that a stage always writes the same files.
    """

    column: str
    shards: int
    schema: pa.Schema
    sort_by: tuple[str, ...] = ()

    def expand(self, tables: beam.PCollection[pa.Table]) -> beam.PCollection[tuple[int, pa.Table]]:
        keyed = tables | "Split" >> beam.FlatMap(
            split_by_hash, self.column, self.shards
        ).with_output_types(tuple[int, pa.Table])
        empty = tables.pipeline | "AllShards" >> beam.Create(
            [(shard, self.schema.empty_table()) for shard in range(self.shards)]
        ).with_output_types(tuple[int, pa.Table])
        return (
            (keyed, empty)
            | beam.Flatten()
            | "Group" >> beam.GroupByKey()
            | "Sort"
            >> beam.MapTuple(
                lambda shard, parts: (shard, concat_sorted(list(parts), list(self.sort_by)))
            ).with_output_types(tuple[int, pa.Table])
        )


@dataclass(eq=False)
class GatherTables(beam.PTransform):
    """Tables -> one table with all rows, sorted; for what fits on one worker."""

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


@dataclass(eq=False)
class WriteShards(beam.PTransform):
    """Writes (shard, table) to `<folder>/<name>/part-<shard>-of-<shards>.parquet`."""

    folder: str
    name: str  # relative to the folder of the stage; "" for the folder itself
    shards: int

    def expand(self, sharded: beam.PCollection[tuple[int, pa.Table]]) -> beam.PCollection[Tally]:
        return sharded | beam.MapTuple(self._write)

    def _write(self, shard: int, table: pa.Table) -> Tally:
        file = f"part-{shard:05d}-of-{self.shards:05d}.parquet"
        record = files.write_parquet(
            self.folder, f"{self.name}/{file}" if self.name else file, table
        )
        Metrics.counter(self.name or "write", "rows_written").inc(table.num_rows)
        return Tally(written=table.num_rows, files=(record,))


@dataclass(eq=False)
class WriteTable(beam.PTransform):
    """Writes a PCollection of a single table to `<folder>/<name>`."""

    folder: str
    name: str

    def expand(self, table: beam.PCollection[pa.Table]) -> beam.PCollection[Tally]:
        return table | beam.Map(self._write)

    def _write(self, table: pa.Table) -> Tally:
        Metrics.counter(self.name, "rows_written").inc(table.num_rows)
        record = files.write_parquet(self.folder, self.name, table)
        return Tally(written=table.num_rows, files=(record,))


@dataclass(eq=False)
class WriteDeadLetter(beam.PTransform):
    """Writes DEAD_ROWS to `<folder>/part-<shard>-of-<shards>.jsonl`, and counts them."""

    folder: str
    shards: int

    def expand(self, dead: beam.PCollection[pa.Table]) -> beam.PCollection[Tally]:
        return (
            dead
            | ShardBy("line", self.shards, col.DEAD_ROWS, ("line", "reason"))
            | "Write" >> beam.MapTuple(self._write)
        )

    def _write(self, shard: int, dead: pa.Table) -> Tally:
        if not dead.num_rows:
            return Tally()
        lines = "".join(f"{line}\n" for line in dead["line"].to_pylist())
        name = f"part-{shard:05d}-of-{self.shards:05d}.jsonl"
        files.write_record(self.folder, name, lines.encode())
        return Tally(dead=dead.num_rows, reasons=Counter(dead["reason"].to_pylist()))


def map_shards(
    function: Callable[[pa.Table], pa.Table],
) -> beam.PTransform:
    """Apply a function to the table of each (shard, table)."""
    return beam.MapTuple(lambda shard, table: (shard, function(table))).with_output_types(
        tuple[int, pa.Table]
    )


@dataclass(eq=False)
class RequireRows(beam.PTransform):
    """Fails the stage with an InputError if all (shard, table) together have no row."""

    otherwise: str  # the message

    def expand(self, sharded: beam.PCollection[tuple[int, pa.Table]]) -> beam.PCollection[Tally]:
        return (
            sharded
            | "Count" >> beam.MapTuple(lambda _, table: table.num_rows)
            | "Sum" >> beam.CombineGlobally(sum)
            | "Check" >> beam.Map(self._check)
        )

    def _check(self, rows: int) -> Tally:
        if not rows:
            raise InputError(self.otherwise)
        return Tally()
