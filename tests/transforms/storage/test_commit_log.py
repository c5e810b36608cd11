"""Which files are known to be whole, and how fast they come."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from emulators.storm import watched
from transforms.errors import InputError
from transforms.storage import files
from transforms.storage.commit_log import CommitLog

TABLE = pa.table({"number": [1, 2]})


@pytest.fixture
def committed(tmp_path: Path) -> CommitLog:
    return CommitLog(str(tmp_path / "stage"), str(tmp_path / "notes"))


def test_a_written_file_is_found_with_its_checksum(committed: CommitLog) -> None:
    record = committed.write("a.parquet", TABLE)
    assert committed.finder()("a.parquet") == record


@pytest.mark.parametrize("work", ["work", "./work", ".//work/"])
def test_a_file_is_found_however_the_folder_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    monkeypatch.chdir(tmp_path)
    committed = CommitLog(files.join(work, "stage"), files.join(work, "notes"))
    record = committed.write("a.parquet", TABLE)
    assert committed.finder()("a.parquet") == record


def test_a_file_without_a_note_is_not_trusted(committed: CommitLog, tmp_path: Path) -> None:
    committed.write("a.parquet", TABLE)
    (tmp_path / "notes" / "a.parquet.json").unlink()
    assert committed.finder()("a.parquet") is None


def test_a_note_without_its_file_says_nothing(committed: CommitLog, tmp_path: Path) -> None:
    committed.write("a.parquet", TABLE)
    (tmp_path / "stage" / "a.parquet").unlink()
    assert committed.finder()("a.parquet") is None


@pytest.mark.parametrize("at", [0, 50, -1])
def test_a_changed_byte_is_noticed(committed: CommitLog, tmp_path: Path, at: int) -> None:
    committed.write("a.parquet", TABLE)
    path = tmp_path / "stage" / "a.parquet"
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    assert committed.finder()("a.parquet") is None


def test_a_file_that_is_not_as_written_does_not_count(committed: CommitLog, tmp_path: Path) -> None:
    committed.write("a.parquet", TABLE)
    committed.write("b.parquet", TABLE)
    (tmp_path / "stage" / "a.parquet").write_bytes(b"")
    committed.finder()("a.parquet")
    assert committed.count() == 1


@pytest.mark.parametrize(
    "note",
    [b"", b"{", b"[]", b'{"path": "a.parquet"}', b"\xff", b"of another file", b"[" * 100_000],
)
def test_a_damaged_note_is_a_warning_and_its_file_is_not_trusted(
    committed: CommitLog, tmp_path: Path, caplog, note: bytes
) -> None:
    committed.write("a.parquet", TABLE)
    committed.write("b.parquet", TABLE)
    path = tmp_path / "notes" / "a.parquet.json"
    path.write_bytes(path.with_name("b.parquet.json").read_bytes() if b"other" in note else note)
    assert committed.finder()("a.parquet") is None
    assert caplog.messages == [f"{path} is damaged: its file is written again"]
    assert committed.count() == 1


def test_no_note_is_written_outside(committed: CommitLog, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not below it"):
        committed.adopt([files.FileRecord("../../x", 1, "", "")])
    assert list(tmp_path.iterdir()) == []


def written_at(committed: CommitLog, notes: Path, times: list[float]) -> None:
    for number, time in enumerate(times):
        committed.write(f"{number}.parquet", TABLE)
        os.utime(notes / f"{number}.parquet.json", (time, time))


def test_time_left_is_that_of_the_missing_files(committed: CommitLog, tmp_path: Path) -> None:
    written_at(committed, tmp_path / "notes", [100, 103, 106])
    progress = committed.progress(10)
    assert (progress.done, progress.total, progress.seconds_left) == (3, 10, pytest.approx(21))


def test_a_night_in_between_does_not_count(committed: CommitLog, tmp_path: Path) -> None:
    written_at(committed, tmp_path / "notes", [100, 103, 106, 40_000, 40_003])
    assert committed.progress(15).seconds_left == pytest.approx(30)


def test_one_file_tells_no_speed(committed: CommitLog, tmp_path: Path) -> None:
    written_at(committed, tmp_path / "notes", [100])
    assert committed.progress(2).seconds_left is None


def test_files_in_cloud_storage_are_committed_too(storage) -> None:
    root = f"gs://{storage.bucket}/w"
    committed = CommitLog(f"{root}/stage", f"{root}/notes")
    records = [committed.write(name, TABLE) for name in ("a.parquet", "b.parquet", "c.parquet")]
    files.write_bytes(f"{root}/stage/b.parquet", b"?" * records[1].size)
    files.delete_file(f"{root}/stage/c.parquet")
    found = [
        committed.finder()(name) for name in ("a.parquet", "b.parquet", "c.parquet", "d.parquet")
    ]
    assert found == [records[0], None, None, None]
    assert committed.progress(4).done == committed.count() == 1


def test_at_gs_only_notes_that_are_there_are_read(storage) -> None:
    root = f"gs://{storage.bucket}/w"
    committed = CommitLog(f"{root}/stage", f"{root}/notes")
    records = [committed.write(f"{number}.parquet", TABLE) for number in range(3)]
    with watched("STORAGE_EMULATOR_HOST", "/o[/?]") as asked:
        find = committed.finder()
        found = [find(f"{number}.parquet") for number in range(100)]
    assert found == [*records, *[None] * 97]
    assert len(asked) == 2 + len(records)
