"""Reading files as they are found in the wild."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.transforms.eager import run
from transforms.errors import InputError
from transforms.inputs import read_files
from transforms.inputs.read_files import MALFORMED, POSITION, ReadTables, check_columns, find_files

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


def values(rows: list[dict], column: str) -> list:
    return [row[column] for row in rows if column in row]


def test_files_are_found_by_name_pattern_and_folder(tmp_path: Path) -> None:
    names = ["1.parquet", "2.parquet", "3.csv", "4.csv.gz"]
    for name in [*names, "_SUCCESS", "notes.txt"]:
        (tmp_path / name).touch()
    paths = [str(tmp_path / name) for name in names]
    assert find_files(paths[2], "items") == paths[2:3]
    assert find_files(f"{tmp_path}/*.parquet", "items") == paths[:2]
    assert find_files(str(tmp_path), "items") == paths
    assert find_files(f"{tmp_path}/", "items") == paths


@pytest.mark.parametrize("missing", ["nothing.csv", "*.orc", ""])
def test_an_input_that_is_not_there_is_named(tmp_path: Path, missing: str) -> None:
    with pytest.raises(InputError, match="no such file") as error:
        find_files(f"{tmp_path}/{missing}", "items")
    assert f"--items={tmp_path}/{missing}" in str(error.value)


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = parquet(tmp_path, pa.table({"userid": ["a"], "item_id": ["b"]}))
    with pytest.raises(InputError, match=r"no column 'user_id' \(did you mean to rename 'userid'"):
        check_columns([path], "interactions", ["item_id", "user_id"])


@pytest.mark.parametrize("content", [HEADER.replace(b"item", b"user") + b"1,2\n", b"a,user_id,a\n"])
def test_a_column_that_is_there_twice_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match="more than one column"):
        check_columns([csv(tmp_path, content)], "interactions", ["user_id"])


@pytest.mark.parametrize("content", [b"", b"PAR1", b"user_id,item_id\n1,2\n", b"PAR1????PAR1" * 9])
def test_what_is_not_parquet_is_named(tmp_path: Path, content: bytes) -> None:
    path = csv(tmp_path, content, "log.parquet")
    with pytest.raises(InputError, match=r"log.parquet is not a Parquet file \(.*\); name CSV"):
        check_columns([path], "interactions", [])


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    path = Path(parquet(tmp_path, pa.table({"user_id": ["a"] * 100})))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="is not a Parquet file"):
        check_columns([str(path)], "interactions", [])


@pytest.mark.parametrize(
    "content",
    [b"caf\xe9,user_id\n1,2\n", HEADER + b"caf\xe9,2\n", HEADER.decode().encode("utf-16")],
)
def test_csv_in_another_encoding_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"log.csv is not a CSV file in UTF-8"):
        check_columns([csv(tmp_path, content)], "interactions", ["user_id"])


def test_a_name_that_says_gzip_must_not_lie(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"log.csv.gz is not a CSV file"):
        check_columns([csv(tmp_path, HEADER, "log.csv.gz")], "interactions", ["user_id"])


def test_a_file_without_a_byte_is_called_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"log.csv is empty"):
        check_columns([csv(tmp_path, b"")], "interactions", ["user_id"])


def test_no_rows_at_all_are_refused(tmp_path: Path) -> None:
    paths = [
        csv(tmp_path, HEADER),
        parquet(tmp_path, pa.schema({"user_id": pa.int64()}).empty_table()),
    ]
    with pytest.raises(InputError, match=r"has no rows"):
        check_columns(paths, "interactions", ["user_id"])


def test_one_file_without_rows_does_no_harm(tmp_path: Path) -> None:
    paths = [csv(tmp_path, HEADER, "1.csv"), csv(tmp_path, HEADER + b"1,2\n", "2.csv")]
    check_columns(paths, "interactions", ["user_id"])
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


@pytest.mark.parametrize(
    ("content", "users"),
    [
        (HEADER + b"007,2\n1e3,2\n", ["007", "1e3"]),  # as they are written
        (HEADER + b',2\n\n"",2\n', [None, None]),
        (HEADER + b'"a ""b"", c","two\nlines"\n', ['a "b", c']),
        (HEADER.replace(b"\n", b"\r\n") + b"a,2\r\n", ["a"]),
        (b"\xef\xbb\xbf" + HEADER + b"a,2\n", ["a"]),
        (b"\n\n" + HEADER + b"a,2\n", ["a"]),
        (HEADER + "é\u2028😀,2\n".encode(), ["é\u2028😀"]),
        (HEADER + b"a,2", ["a"]),
    ],
)
def test_csv_values_are_read_as_strings(tmp_path: Path, content: bytes, users: list) -> None:
    path = csv(tmp_path, content)
    check_columns([path], "interactions", ["user_id"])
    assert values(read(path), "user_id") == users


def test_gzipped_csv_is_read(tmp_path: Path) -> None:
    path = csv(tmp_path, gzip.compress(HEADER + b"a,2\n"), "log.csv.gz")
    check_columns([path], "interactions", ["user_id"])
    assert values(read(path), "user_id") == ["a"]


def test_malformed_csv_lines_are_kept_as_they_are(tmp_path: Path) -> None:
    rows = read(csv(tmp_path, HEADER + b"a,1\nb\nc,1,too many\n\nd,2\n"))
    assert values(rows, "user_id") == ["a", "d"]
    assert values(rows, MALFORMED) == ["b", "c,1,too many"]


def test_a_csv_file_of_malformed_lines_alone_has_rows(tmp_path: Path) -> None:
    path = csv(tmp_path, HEADER + b"b\n")
    check_columns([path], "interactions", ["user_id"])
    assert values(read(path), MALFORMED) == ["b"]
