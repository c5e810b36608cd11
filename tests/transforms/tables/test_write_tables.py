"""Tables written in shards: everything that came in, the same bytes from any order."""

import random
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.transforms.eager import run
from transforms import schemas as col
from transforms.errors import InputError
from transforms.storage import files
from transforms.storage.manifest import RowCounts, StagePlan, read_manifest
from transforms.tables.shuffle import GatherTables, ShardBy, Spill, Spilled, table_of
from transforms.tables.write_tables import (
    RequireRows,
    WriteDeadLetter,
    WriteManifest,
    WriteShards,
    WriteTable,
    map_shards,
)

SCHEMA = pa.schema({"id": pa.string(), "number": pa.int64()})
ROWS = [{"id": f"id {number % 7}", "number": number} for number in range(30)]
SORT = ("id", "number")
PLAN = StagePlan("make_tea", {}, {}, None, 1)


def tables(rows: list[dict], size: int) -> list[pa.Table]:
    return [
        pa.Table.from_pylist(rows[start : start + size], schema=SCHEMA)
        for start in range(0, len(rows), size)
    ]


def write(folder: Path, parts: list[pa.Table], *flags: str) -> list[RowCounts]:
    def build(pipeline: beam.Pipeline) -> dict[str, beam.PCollection]:
        created = pipeline | beam.Create(parts).with_output_types(pa.Table)
        return {
            "shards": created
            | ShardBy("id", 3, SCHEMA, SORT)
            | WriteShards(str(folder), "numbers", 3)
        }

    return run(build, *flags)["shards"]


def test_all_rows_are_written_once_equal_keys_together_and_sorted(tmp_path: Path) -> None:
    write(tmp_path, tables(ROWS, 4))
    parts = [pq.read_table(path).to_pylist() for path in sorted(tmp_path.rglob("*.parquet"))]
    rows = [row for part in parts for row in part]
    assert sorted(rows, key=lambda row: row["number"]) == ROWS
    assert all(part == sorted(part, key=lambda row: tuple(row.values())) for part in parts)
    homes = {(row["id"], number) for number, part in enumerate(parts) for row in part}
    assert len(homes) == 7


@pytest.mark.parametrize("parts", [tables(ROWS, 4), tables(ROWS[:1], 1), []])
def test_every_shard_is_written_and_counted(tmp_path: Path, parts: list[pa.Table]) -> None:
    counts = write(tmp_path, parts)
    names = [f"numbers/part-{shard:05d}-of-00003.parquet" for shard in range(3)]
    records = sorted(record for count in counts for record in count.files)
    assert [record.path for record in records] == names
    assert records == files.folder_records(str(tmp_path))
    assert sum(count.written for count in counts) == sum(part.num_rows for part in parts)
    assert all(pq.read_schema(tmp_path / name) == SCHEMA for name in names)


def test_bytes_depend_on_the_rows_alone(tmp_path: Path) -> None:
    shuffled = list(ROWS)
    random.Random(0).shuffle(shuffled)
    write(tmp_path / "1", tables(ROWS, 30))
    write(tmp_path / "2", tables(shuffled, 4))
    first, second = (files.folder_records(str(tmp_path / name)) for name in "12")
    assert first == second


@pytest.mark.parametrize("parts", [tables(ROWS, 4), []])
def test_rows_shuffled_through_files_are_the_same(tmp_path: Path, parts: list[pa.Table]) -> None:
    spilled = tmp_path / "spilled"
    write(tmp_path / "1", parts)
    write(tmp_path / "2", parts, f"--shuffle_folder={spilled}")
    first, second = (files.folder_records(str(tmp_path / name)) for name in "12")
    assert first == second
    assert len(list(spilled.glob("*.arrow"))) == len(parts)


@pytest.mark.parametrize("parts", [tables(ROWS, 4), [SCHEMA.empty_table()], []])
@pytest.mark.parametrize("in_files", [False, True])
def test_tables_that_wait_are_the_same(
    tmp_path: Path, parts: list[pa.Table], in_files: bool
) -> None:
    numbered = list(enumerate(parts))
    kept = run(
        lambda pipeline: {
            "kept": pipeline
            | beam.Create(numbered).with_output_types(tuple[int, pa.Table])
            | Spill()
        },
        *([f"--shuffle_folder={tmp_path}"] if in_files else []),
    )["kept"]
    found = [(number, table_of(one)) for number, one in sorted(kept, key=lambda one: one[0])]
    assert all(isinstance(one, Spilled) == in_files for _, one in kept)
    assert [number for number, _ in found] == [number for number, _ in numbered]
    assert all(table.equals(parts[number]) for number, table in found)
    assert all(table.schema == SCHEMA for _, table in found)


@pytest.mark.parametrize("parts", [tables(ROWS, 4), []])
def test_gathering_gives_one_sorted_table(parts: list[pa.Table]) -> None:
    found = run(
        lambda pipeline: {
            "table": pipeline
            | beam.Create(parts).with_output_types(pa.Table)
            | GatherTables(SCHEMA, ("number",))
        }
    )["table"]
    assert [table.to_pylist() for table in found] == [ROWS if parts else []]
    assert found[0].schema == SCHEMA


def test_a_single_table_is_written_under_its_name(tmp_path: Path) -> None:
    table = tables(ROWS, 30)[0]
    counts = run(
        lambda pipeline: {
            "count": pipeline | beam.Create([table]) | WriteTable(str(tmp_path), "all.parquet")
        }
    )["count"]
    assert pq.read_table(tmp_path / "all.parquet").equals(table)
    assert counts == [RowCounts(written=30, files=tuple(files.folder_records(str(tmp_path))))]


def test_dead_rows_are_a_line_each_and_counted_by_reason(tmp_path: Path) -> None:
    lines = [f'{{"row": "{number} é"}}' for number in range(20)] + ['{"row": "again"}'] * 2
    reasons = ["old" if number % 3 else "odd" for number in range(22)]
    dead = pa.table({"line": lines, "reason": reasons}, schema=col.DEAD_ROWS)
    counts = run(
        lambda pipeline: {
            "count": pipeline
            | beam.Create([dead.slice(0, 9), dead.slice(9)]).with_output_types(pa.Table)
            | WriteDeadLetter(str(tmp_path), 4)
        }
    )["count"]
    written = "".join(path.read_text() for path in sorted(tmp_path.glob("*.jsonl")))
    assert sorted(written.split("\n")) == sorted(["", *lines])
    total = sum(counts, RowCounts())
    assert total.dead == 22
    assert total.reasons == {"odd": 8, "old": 14}


def test_no_dead_rows_leave_no_file(tmp_path: Path) -> None:
    counts = run(
        lambda pipeline: {
            "count": pipeline
            | beam.Create([]).with_output_types(pa.Table)
            | WriteDeadLetter(str(tmp_path), 4)
        }
    )["count"]
    assert sum(counts, RowCounts()) == RowCounts()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("counts", [[], [RowCounts(read=5, used=3), RowCounts(dead=2)]])
def test_the_manifest_has_the_sum_of_all_counts(tmp_path: Path, counts: list[RowCounts]) -> None:
    note = tmp_path / "plan.json"
    note.write_text('{"started": 2.5}')
    write = WriteManifest(str(tmp_path), PLAN, {}, 2.5, str(note))
    found = run(lambda pipeline: {"total": pipeline | beam.Create(counts) | write})["total"]
    assert found == [sum(counts, RowCounts())]
    manifest = read_manifest(str(tmp_path))
    assert manifest is not None
    assert manifest["rows"]["read"] == sum(count.read for count in counts)


def test_a_run_that_a_later_one_took_over_writes_no_manifest(tmp_path: Path) -> None:
    note = tmp_path / "plan.json"
    for content in ('{"started": 9.5}', "{", None):
        note.unlink(missing_ok=True) if content is None else note.write_text(content)
        with pytest.raises(InputError, match=r"another run of make_tea began in .* after this one"):
            WriteManifest(str(tmp_path), PLAN, {}, 2.5, str(note))._write(RowCounts())
    assert not (tmp_path / "manifest.json").exists()


def test_a_function_is_applied_to_the_table_of_each_shard() -> None:
    found = run(
        lambda pipeline: {
            "mapped": pipeline
            | beam.Create([(3, tables(ROWS, 30)[0])])
            | map_shards(lambda table: table.slice(0, 2))
        }
    )["mapped"]
    assert [(shard, table.num_rows) for shard, table in found] == [(3, 2)]


def test_rows_are_required_of_all_shards_together() -> None:
    def check(parts: list[pa.Table]) -> None:
        run(
            lambda pipeline: {
                "count": pipeline
                | beam.Create([(number, part) for number, part in enumerate(parts)])
                | RequireRows("no rows; do something", pipeline | "After" >> beam.Create([None]))
            }
        )

    empty = SCHEMA.empty_table()
    check([empty, tables(ROWS, 30)[0]])
    with pytest.raises(InputError, match="no rows; do something"):
        check([empty, empty])
