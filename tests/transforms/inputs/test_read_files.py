"""Reading files as they are found in the wild."""

import bz2
import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.transforms.eager import run
from transforms.errors import InputError
from transforms.inputs import read_files, reasons
from transforms.inputs.formats import json_lines
from transforms.inputs.input_format import MALFORMED, POSITION, REASON, STANDARD, InputFormat
from transforms.inputs.read_files import ReadTables, check_columns

HEADER = b"user_id,item_id\n"


def csv(folder: Path, content: bytes, name: str = "log.csv") -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


def parquet(folder: Path, table: pa.Table, name: str = "log.parquet", **options) -> str:
    pq.write_table(table, folder / name, **options)
    return str(folder / name)


def read(*paths: str) -> list[dict]:
    """Return all rows by position."""
    tables = run(lambda pipeline: {"read": pipeline | ReadTables(paths)})["read"]
    rows = [row for table in tables for row in table.to_pylist()]
    return sorted(rows, key=lambda row: row[POSITION])


def check(*paths: str, required: str = "user_id", written: InputFormat = STANDARD) -> None:
    check_columns(list(paths), "interactions", required.split(), written)


def values(rows: list[dict], column: str) -> list:
    return [row[column] for row in rows if column in row]


def refusal(*paths: str, required: str = "user_id", written: InputFormat = STANDARD) -> str:
    """Return the one line that says why files are not taken."""
    with pytest.raises(InputError) as error:
        check(*paths, required=required, written=written)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_columns_are_named_with_the_flag_and_the_likeliest(tmp_path: Path) -> None:
    path = parquet(tmp_path, pa.table({"userId": ["a"], "movieId": ["b"], "ts": [1]}))
    said = refusal(path, required="user_id item_id timestamp")
    assert said.startswith(
        f"--interactions: {path} has no column 'user_id', 'item_id', 'timestamp'; it has"
    )
    assert "give --interaction_columns=user_id=userId,item_id=movieId,timestamp=ts" in said


def test_a_file_without_a_header_line_leads_to_the_flag(tmp_path: Path) -> None:
    said = refusal(csv(tmp_path, b"1,8,1700001000,3.0\n2,8,1700001000,3.0\n"))
    assert said.endswith("without a header line, name its columns in --interaction_header")


def test_a_file_of_one_column_leads_to_the_delimiter(tmp_path: Path) -> None:
    assert refusal(csv(tmp_path, b"user_id item_id\na b\n")).endswith(
        "give --delimiter if another character separates its columns"
    )


def test_a_column_that_cannot_be_guessed_is_left_open(tmp_path: Path) -> None:
    said = refusal(csv(tmp_path, b"who,what\na,b\n"), required="user_id")
    assert said.endswith("it has: who, what; give --interaction_columns=user_id=...")


def test_a_column_that_is_named_wrongly_is_called_as_it_was(tmp_path: Path) -> None:
    written = InputFormat(columns=(("user_id", "visitor"),))
    assert "has no column 'visitor'; it has: user_id" in refusal(
        csv(tmp_path, HEADER), written=written
    )


@pytest.mark.parametrize("content", [HEADER.replace(b"item", b"user") + b"1,2\n", b"a,user_id,a\n"])
def test_a_column_that_is_there_twice_is_named(tmp_path: Path, content: bytes) -> None:
    assert "more than one column" in refusal(csv(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PAR1", "log is damaged or is not what its first bytes say"),
        (b"PAR1????PAR1" * 9, "log is damaged or is not what its first bytes say"),
        (gzip.compress(HEADER, mtime=0)[:-12], "log is damaged or is not what its first bytes say"),
        (gzip.compress(b"PAR1" * 9, mtime=0), "log is a compressed Parquet file; decompress it"),
        (b"Obj\x01...", "log is an Avro file; convert it to Parquet, CSV or JSON lines"),
        (b"PK\x03\x04...", "log is a zip archive or an Excel file; convert it"),
        (b"ORC...", "log is an ORC file; convert it"),
        (HEADER.decode().encode("utf-16"), "log is UTF-16; give --encoding=utf-16"),
        (b' [{"user_id": 1}]', "log is a JSON array; write one object a line"),
        (b'{\n"user_id": 1\n}\n', "log has no line that is a JSON object; write one object"),
        (b"", "log is empty"),
        (b"\n\n", "log is empty"),
        (HEADER, "log has no rows"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in refusal(csv(tmp_path, content, "log"))


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    path = Path(parquet(tmp_path, pa.table({"user_id": ["a"] * 100})))
    path.write_bytes(path.read_bytes()[:-20])
    assert "log.parquet is damaged" in refusal(str(path))


def test_a_file_that_is_damaged_far_from_its_head_is_named(tmp_path: Path) -> None:
    path = csv(tmp_path, gzip.compress(HEADER + b"a,2\n" * 10**6)[:-100])
    check(path)
    with pytest.raises(Exception, match=r"log\.csv is damaged"):
        read(path)


def test_one_file_of_a_folder_that_is_no_data_is_named(tmp_path: Path) -> None:
    paths = [csv(tmp_path, HEADER + b"1,2\n"), csv(tmp_path, b"Read me first\n", "readme.txt")]
    said = refusal(*paths)
    assert said.startswith(f"--interactions: {paths[1]} has no column 'user_id'")
    assert said.endswith("to read a part of 2 files, give a pattern")


def test_no_rows_at_all_are_refused(tmp_path: Path) -> None:
    empty = parquet(tmp_path, pa.schema({"user_id": pa.int64()}).empty_table())
    assert "has no rows" in refusal(csv(tmp_path, HEADER), empty)


def test_one_file_without_rows_does_no_harm(tmp_path: Path) -> None:
    paths = [csv(tmp_path, HEADER, "1.csv"), csv(tmp_path, HEADER + b"1,2\n", "2.csv")]
    check(*paths)
    assert values(read(*paths), "user_id") == ["1"]


@pytest.mark.parametrize("group_rows", [1, 3, 100])
def test_parquet_is_read_whole_whatever_its_row_groups(tmp_path: Path, group_rows: int) -> None:
    table = pa.table({"user_id": range(10)})
    rows = read(parquet(tmp_path, table, row_group_size=group_rows))
    assert values(rows, "user_id") == list(range(10))


def test_positions_follow_files_then_rows(tmp_path: Path) -> None:
    paths = (
        parquet(tmp_path, pa.table({"user_id": ["a", "b", "c"]}), "1.parquet", row_group_size=2),
        csv(tmp_path, b"user_id\nd\ne\n", "2.csv"),
    )
    rows = read(*paths)
    assert values(rows, "user_id") == ["a", "b", "c", "d", "e"]
    assert len(set(values(rows, POSITION))) == 5


def test_tables_are_no_larger_than_a_batch(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(read_files, "BATCH_ROWS", 4)
    path = parquet(tmp_path, pa.table({"user_id": range(10)}))
    tables = run(lambda pipeline: {"read": pipeline | ReadTables((path,))})["read"]
    assert sorted(table.num_rows for table in tables) == [2, 4, 4]


TABLE = b"user_id,item_id\n007,2\n"
LINES = b'{"user_id":"007","item_id":2}\n'
ZSTD = pa.Codec("zstd")


@pytest.mark.parametrize(
    "content",
    [
        TABLE,
        b"\xef\xbb\xbf" + TABLE,
        TABLE.replace(b",", b"\t"),
        gzip.compress(TABLE, mtime=0),
        gzip.compress(TABLE[:20], mtime=0) + gzip.compress(TABLE[20:], mtime=0),
        bz2.compress(TABLE),
        ZSTD.compress(TABLE, asbytes=True),
        LINES,
        gzip.compress(LINES, mtime=0),
        b"\n\n" + LINES + b"\n",
    ],
)
def test_the_content_says_the_format(tmp_path: Path, content: bytes) -> None:
    path = csv(tmp_path, content, "part-00000")
    check(path, required="user_id item_id")
    [row] = read(path)
    assert (row["user_id"], row["item_id"]) == ("007", "2")


def test_lines_that_are_no_rows_are_kept_as_they_are(tmp_path: Path) -> None:
    rows = read(csv(tmp_path, HEADER + b"a,1\nb\nc,1,too many\n\nd,2\n"))
    assert values(rows, "user_id") == ["a", "d"]
    assert values(rows, MALFORMED) == ["b", "c,1,too many"]


def test_a_file_of_lines_that_are_no_rows_alone_has_rows(tmp_path: Path) -> None:
    path = csv(tmp_path, HEADER + b"b\n")
    check(path)
    assert values(read(path), MALFORMED) == ["b"]


def test_hive_folders_are_columns_unless_the_file_has_them(tmp_path: Path) -> None:
    folder = tmp_path / "user_id=x" / "dt=2026-01-31"
    folder.mkdir(parents=True)
    path = csv(folder, HEADER + b"a,1\n")
    check(path, required="user_id dt")
    [row] = read(path)
    assert (row["user_id"], row["dt"]) == ("a", "2026-01-31")


def test_json_lines_keep_values_as_they_are_written(tmp_path: Path) -> None:
    content = b"""{"user_id": 18446744073709551617, "item_id": "2026-01-31", "rating": 1.50}
{"user_id": 1.0, "keywords": ["a", 1], "eligible": true}
nothing
{"user_id": "caf\xe9"}
{"user_id": "\\ud800"}
[1]
{"user_id": null, "extra": {"a": 1}}
"""
    path = csv(tmp_path, content, "log.jsonl")
    check(path)
    rows = read(path)
    assert values(rows, "user_id") == ["18446744073709551617", "1.0", None]
    assert values(rows, "item_id") == ["2026-01-31", None, None]
    assert values(rows, "rating") == ["1.50", None, None]
    assert values(rows, "keywords") == [None, ["a", "1"], None]
    assert values(rows, "eligible") == [None, "true", None]
    assert values(rows, "extra") == [None, None, '{"a": "1"}']
    bad = [(row[MALFORMED], row[REASON]) for row in rows if MALFORMED in row]
    assert bad == [
        ("nothing", reasons.NOT_JSON),
        ('{"user_id": "caf\\xe9"}', reasons.NOT_UTF8),
        ('{"user_id": "\\ud800"}', reasons.NOT_UTF8),
        ("[1]", reasons.NOT_JSON),
    ]


def test_a_value_that_json_leaves_out_is_missing() -> None:
    rows, _ = json_lines.parse_block(b'{"user_id": 3}\n', ["user_id", "item_id"])
    assert rows.to_pylist() == [{"user_id": "3", "item_id": None}]
