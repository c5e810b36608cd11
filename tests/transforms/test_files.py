"""Files, on a local disk and on a file system without folders."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.transforms import memory_files
from transforms import files


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path) if request.param == "local" else "memory://bucket/folder"
    memory_files.CONTENT.clear()


def test_what_is_written_is_read(folder: str) -> None:
    files.write_bytes(files.join(folder, "new", "file"), b"content")
    assert files.read_bytes(files.join(folder, "new", "file")) == b"content"


def test_a_file_is_overwritten(folder: str) -> None:
    path = files.join(folder, "file")
    files.write_bytes(path, b"a longer one")
    files.write_bytes(path, b"short")
    assert files.read_bytes(path) == b"short"
    assert files.list_folder(folder) == [path]


def test_a_writer_that_dies_leaves_no_file(folder: str, monkeypatch) -> None:
    def die(sources: list[str], targets: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.FileSystems, "rename", die)
    path = files.join(folder, "part.parquet")
    with pytest.raises(KeyboardInterrupt):
        files.write_bytes(path, b"content")
    assert not files.exists(path)
    assert files.list_files(files.join(folder, "*.parquet")) == []


def test_attempts_at_one_file_use_names_of_their_own(folder: str, monkeypatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(files.FileSystems, "rename", lambda sources, _: seen.extend(sources))
    files.write_bytes(files.join(folder, "file"), b"one")
    files.write_bytes(files.join(folder, "file"), b"two")
    assert len(set(seen)) == 2


def test_a_record_says_size_and_digest(folder: str) -> None:
    record = files.write_record(folder, "a/b", b"content")
    assert record == files.FileRecord("a/b", 7, hashlib.sha256(b"content").hexdigest())
    assert files.size(files.join(folder, "a/b")) == 7


def test_a_missing_file_has_no_size(folder: str) -> None:
    assert files.size(files.join(folder, "nothing")) == -1


def test_folders_list_all_below_them_sorted(folder: str) -> None:
    for name in ("b", "a/c", "a/b/d"):
        files.write_bytes(files.join(folder, name), b"")
    names = [path.removeprefix(folder).lstrip("/") for path in files.list_folder(folder)]
    assert names == ["a/b/d", "a/c", "b"]
    assert files.list_folder(files.join(folder, "missing")) == []


def test_patterns_list_the_files_they_match(folder: str) -> None:
    for name in ("2.csv", "1.csv", "1.parquet"):
        files.write_bytes(files.join(folder, name), b"")
    found = files.list_files(files.join(folder, "*.csv"))
    assert [path.rsplit("/", 1)[1] for path in found] == ["1.csv", "2.csv"]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert files.list_files(str(tmp_path)) == []


def test_deleting_takes_all_below_a_folder_and_nothing_else(folder: str) -> None:
    for name in ("gone/a", "gone/b/c", "kept"):
        files.write_bytes(files.join(folder, name), b"")
    files.delete_folder(files.join(folder, "gone"))
    assert files.list_folder(folder) == [files.join(folder, "kept")]


def test_deleting_what_is_not_there_is_fine(folder: str) -> None:
    files.delete_folder(files.join(folder, "missing"))
    files.delete_file(files.join(folder, "missing"))
    assert files.list_folder(folder) == []


def test_a_fingerprint_follows_the_content(folder: str) -> None:
    path = files.join(folder, "file")
    prints = []
    for content in (b"one", b"two", b"one"):
        files.write_bytes(path, content)
        prints.append(files.fingerprint(path))
    assert prints[0] == prints[2] != prints[1]


def test_the_same_table_gives_the_same_bytes(folder: str) -> None:
    table = pa.table({"id": [1, 2], "name": ["a", None]})
    first = files.write_parquet(folder, "1.parquet", table)
    second = files.write_parquet(folder, "2.parquet", table.slice(0))
    assert first.sha256 == second.sha256


def test_parquet_parts_are_read_in_order_and_cast(folder: str) -> None:
    schema = pa.schema({"id": pa.int32()})
    for name, ids in (("b", [3]), ("a", [1, 2])):
        files.write_parquet(folder, f"{name}.parquet", pa.table({"id": ids, "more": ids}))
    table = files.read_parquet(files.join(folder, "*.parquet"), schema)
    assert table.equals(pa.table({"id": [1, 2, 3]}, schema=schema))


def test_no_parts_are_an_empty_table(folder: str) -> None:
    schema = pa.schema({"id": pa.int32()})
    assert files.read_parquet(files.join(folder, "*.parquet"), schema) == schema.empty_table()


def test_the_records_of_a_folder_are_those_of_its_files(tmp_path: Path) -> None:
    records = [files.write_record(str(tmp_path), name, name.encode()) for name in ("a", "b/c")]
    assert files.folder_records(str(tmp_path)) == records


def test_only_local_paths_are_local(tmp_path: Path) -> None:
    assert files.local_path(str(tmp_path)) == tmp_path
    assert not files.is_local("memory://bucket/folder")
    with pytest.raises(ValueError, match="memory://bucket"):
        files.local_path("memory://bucket/folder")


def test_a_relative_path_without_a_folder_is_written_here(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    files.write_bytes("file", b"content")
    assert os.listdir(tmp_path) == ["file"]
