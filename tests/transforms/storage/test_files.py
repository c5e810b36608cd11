"""Files, on a local disk and in Cloud Storage."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from apache_beam.io.filesystems import FileSystems
from google.api_core.exceptions import NotFound

from emulators.storm import watched
from transforms.errors import InputError
from transforms.storage import files


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path)
    return f"gs://{request.getfixturevalue('storage').bucket}/folder"


def test_what_is_written_is_read(folder: str) -> None:
    files.write_bytes(files.join(folder, "new", "file"), b"content")
    assert files.read_bytes(files.join(folder, "new", "file")) == b"content"


def test_a_file_is_overwritten(folder: str) -> None:
    path = files.join(folder, "file")
    files.write_bytes(path, b"a longer one")
    files.write_bytes(path, b"short")
    assert files.read_bytes(path) == b"short"
    assert files.list_folder(folder) == [path]


def test_a_file_that_is_not_there_is_none(folder: str) -> None:
    assert files.read_if_there(files.join(folder, "nothing")) is None
    with pytest.raises(FileNotFoundError, match="nothing"):
        files.read_bytes(files.join(folder, "nothing"))


def test_a_local_file_of_any_size_is_copied(folder: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"weights" * 1_000_000)
    files.copy_from(source, files.join(folder, "new", "copy"))
    assert files.read_bytes(files.join(folder, "new", "copy")) == source.read_bytes()


def test_a_writer_that_dies_leaves_no_file(tmp_path: Path, monkeypatch) -> None:
    def die(source: str, target: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        files.write_bytes(str(tmp_path / "part.parquet"), b"content")
    assert list(tmp_path.iterdir()) == []


def test_attempts_at_one_file_use_names_of_their_own(tmp_path: Path, monkeypatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(files.os, "replace", lambda source, _: seen.append(source))
    files.write_bytes(str(tmp_path / "file"), b"one")
    files.write_bytes(str(tmp_path / "file"), b"two")
    assert len(set(seen)) == 2


def test_a_record_says_size_and_digests(folder: str) -> None:
    record = files.write_record(folder, "a/b", b"123456789")
    # The CRC-32C of these nine digits is 0xE3069283 (RFC 3720 and others).
    sha256 = hashlib.sha256(b"123456789").hexdigest()
    assert record == files.FileRecord("a/b", 9, sha256, "4waSgw==")


@pytest.mark.parametrize("damage", [None, "missing", "shorter", "other"])
def test_damage_is_noticed(folder: str, damage: str | None) -> None:
    records = [files.write_record(folder, name, b"content") for name in ("a", "b/c")]
    path = files.join(folder, "b/c")
    if damage == "missing":
        files.delete_file(path)
    elif damage is not None:
        files.write_bytes(path, {"shorter": b"conten", "other": b"cOntent"}[damage])
    assert files.altered(folder, records) == ([] if damage is None else records[1:])


def test_what_a_console_puts_as_a_folder_is_no_file(storage) -> None:
    folder = f"gs://{storage.bucket}/folder"
    files.write_bytes(f"{folder}/", b"")
    files.write_bytes(f"{folder}/a", b"")
    assert files.list_folder(folder) == [f"{folder}/a"]


def test_names_that_look_like_patterns_are_names(folder: str) -> None:
    folder = files.join(folder, "week [1] *?")
    for name in ("a[1]", "a1", "a*"):
        files.write_bytes(files.join(folder, name), name.encode())
    files.delete_file(files.join(folder, "a*"))
    names = [path.removeprefix(folder).lstrip("/") for path in files.list_folder(folder)]
    assert sorted(names) == ["a1", "a[1]"]
    files.delete_folder(folder)
    assert files.list_folder(folder) == []


def test_more_files_than_a_request_deletes(storage) -> None:
    from transforms.storage import cloud_storage

    folder = f"gs://{storage.bucket}/folder"
    for number in range(103):
        files.write_bytes(f"{folder}/{number}", b"")
    cloud_storage.delete([*files.list_folder(folder), f"{folder}/nothing"])
    assert files.list_folder(folder) == []


def test_folders_list_all_below_them_sorted(folder: str) -> None:
    for name in ("b", "a/c", "a/b/d"):
        files.write_bytes(files.join(folder, name), b"")
    names = [path.removeprefix(folder).lstrip("/") for path in files.list_folder(folder)]
    assert names == ["a/b/d", "a/c", "b"]
    assert files.list_folder(files.join(folder, "missing")) == []


def test_deleting_takes_all_below_a_folder_and_nothing_else(folder: str) -> None:
    for name in ("gone/a", "gone/b/c", "kept"):
        files.write_bytes(files.join(folder, name), b"")
    files.delete_folder(files.join(folder, "gone"))
    assert files.list_folder(folder) == [files.join(folder, "kept")]


def test_deleting_may_keep_a_file(folder: str) -> None:
    for name in ("kept", "gone/kept", "gone too"):
        files.write_bytes(files.join(folder, name), b"")
    files.delete_folder(folder, keep="kept")
    assert files.list_folder(folder) == [files.join(folder, "kept")]


def test_a_link_to_a_folder_is_emptied_and_what_links_in_it_lead_to_is_not(tmp_path: Path) -> None:
    kept, link = tmp_path / "other" / "kept", tmp_path / "link"
    for path in (kept, tmp_path / "disk" / "a" / "file"):
        files.write_bytes(str(path), b"")
    link.symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "other").symlink_to(tmp_path / "other")
    files.delete_folder(str(link))
    assert link.is_dir()
    assert list(link.iterdir()) == []
    assert kept.exists()


def test_a_file_that_cannot_be_deleted_is_an_error(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "a")

    files.write_bytes(str(tmp_path / "w" / "a" / "file"), b"")
    monkeypatch.setattr(shutil.os, "unlink", refuse)
    with pytest.raises(PermissionError):
        files.delete_folder(str(tmp_path / "w"))


def test_deleting_what_is_not_there_is_fine(folder: str) -> None:
    files.delete_folder(files.join(folder, "missing"))
    files.delete_file(files.join(folder, "missing"))
    assert files.list_folder(folder) == []


def test_a_fingerprint_follows_the_content(folder: str) -> None:
    path = files.join(folder, "file")
    prints = []
    for content in (b"one", b"two", b"one"):
        files.write_bytes(path, content)
        prints += files.fingerprints([path])
    assert prints[0] == prints[2] != prints[1]


def test_a_file_that_is_gone_has_no_fingerprint(folder: str) -> None:
    kept, gone = files.join(folder, "file-1"), files.join(folder, "file-2")
    files.write_bytes(kept, b"one")
    with pytest.raises(InputError, match="file-2 is gone"):
        files.fingerprints([kept, gone])


def test_fingerprints_of_many_files_at_gs_are_one_listing(storage) -> None:
    folder = f"gs://{storage.bucket}/folder"
    paths = [f"{folder}/{name}" for name in ("log-2", "log-1", "log-3")]
    for path in (*paths, f"{folder}/log-1.csv", f"{folder}/log-1/other"):
        files.write_bytes(path, path.encode())
    expected = [FileSystems.checksum(path) for path in paths]
    with watched("STORAGE_EMULATOR_HOST", "/o[/?]") as asked:
        assert files.fingerprints(paths) == expected
    assert len(asked) == 1


def test_the_same_table_gives_the_same_bytes(folder: str) -> None:
    table = pa.table({"id": [1, 2], "name": ["a", None]})
    first = files.write_parquet(folder, "1.parquet", table)
    second = files.write_parquet(folder, "2.parquet", table.slice(0))
    assert first.sha256 == second.sha256


def test_a_file_that_is_missing_is_no_empty_table(folder: str) -> None:
    with pytest.raises((FileNotFoundError, NotFound), match=r"missing\.parquet"):
        files.read_parquet(files.join(folder, "missing.parquet"), pa.schema({"id": pa.int32()}))


def test_a_folder_whose_name_looks_like_a_pattern_is_that_folder(folder: str) -> None:
    table = pa.table({"id": pa.array([1], pa.int32())})
    named = files.join(folder, "run [2]")
    files.write_parquet(named, "a.parquet", table)
    assert files.read_parquet(files.join(named, "a.parquet"), table.schema).equals(table)


def test_the_records_of_a_folder_are_those_of_its_files(tmp_path: Path) -> None:
    records = [files.write_record(str(tmp_path), name, name.encode()) for name in ("a", "b/c")]
    assert files.folder_records(str(tmp_path)) == records


def test_only_local_paths_are_local(tmp_path: Path) -> None:
    assert files.is_local(str(tmp_path))
    assert not files.is_local("gs://bucket/folder")


def test_a_relative_path_without_a_folder_is_written_here(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    files.write_bytes("file", b"content")
    assert os.listdir(tmp_path) == ["file"]


def test_no_thread_outlives_the_reading_of_a_table(tmp_path: Path) -> None:
    """One that lets go of Python's bytes while the interpreter ends aborts the process."""
    table = pa.table({"n": pa.array(range(10), pa.int32())})
    files.write_parquet(str(tmp_path), "table.parquet", table)
    script = f"""
import os
import pyarrow as pa
from transforms.storage import files
before = os.listdir("/proc/self/task")
files.read_parquet({str(tmp_path / "table.parquet")!r}, pa.schema({{"n": pa.int32()}}))
print(os.listdir("/proc/self/task") == before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
