"""Folders between a remote workspace and the local disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transforms import memory_files
from transforms import files, folders

REMOTE = "memory://bucket/model"


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(folders.tempfile, "gettempdir", lambda: str(tmp_path / "temp"))
    yield
    memory_files.CONTENT.clear()


def content(folder: str) -> dict[str, bytes]:
    return {
        str(Path(path).relative_to(folder)): files.read_bytes(path)
        for path in files.list_folder(folder)
    }


def test_a_local_folder_is_its_own_copy(tmp_path: Path) -> None:
    assert folders.local_copy(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize("folder", [REMOTE, REMOTE + "/"])
def test_a_copy_has_all_files_of_the_remote_folder(folder: str) -> None:
    memory_files.CONTENT.update({f"{REMOTE}/a": b"1", f"{REMOTE}/b/c": b"2"})
    assert content(folders.local_copy(folder)) == {"a": b"1", "b/c": b"2"}


def test_a_copy_is_made_once(monkeypatch) -> None:
    memory_files.CONTENT[f"{REMOTE}/a"] = b"1"
    first = folders.local_copy(REMOTE)
    monkeypatch.setattr(files, "write_bytes", lambda *_: pytest.fail("copied again"))
    assert folders.local_copy(REMOTE) == first


def test_a_model_trained_again_is_copied_again_though_its_sizes_are_the_same() -> None:
    memory_files.CONTENT[f"{REMOTE}/weights"] = b"old"
    old = folders.local_copy(REMOTE)
    memory_files.CONTENT[f"{REMOTE}/weights"] = b"new"
    assert content(folders.local_copy(REMOTE)) == {"weights": b"new"}
    assert content(old) == {"weights": b"old"}  # somebody may be reading it


def test_an_interrupted_copy_is_completed(monkeypatch) -> None:
    memory_files.CONTENT.update({f"{REMOTE}/a": b"1", f"{REMOTE}/b": b"2"})
    write, calls = files.write_bytes, []

    def once(path: str, data: bytes) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise ConnectionError
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_bytes", once)
        with pytest.raises(ConnectionError):
            folders.local_copy(REMOTE)
    assert content(folders.local_copy(REMOTE)) == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize("remote", [False, True])
def test_publishing_copies_files_and_records_them(tmp_path: Path, remote: bool) -> None:
    source = tmp_path / "source"
    for name in ("a", "b/c"):
        files.write_bytes(str(source / name), name.encode())
    target = REMOTE if remote else str(tmp_path / "target")
    records = folders.publish(str(source), target)
    assert records == files.folder_records(str(source))
    for record in records:
        assert files.read_bytes(files.join(target, record.path)) == record.path.encode()


def test_a_local_folder_is_worked_in_itself(tmp_path: Path) -> None:
    assert folders.scratch(str(tmp_path / "new" / "work")) == tmp_path / "new" / "work"
    assert (tmp_path / "new" / "work").is_dir()


def test_each_remote_folder_has_a_scratch_folder_of_its_own() -> None:
    first, second = folders.scratch("memory://a"), folders.scratch("memory://b")
    assert first != second
    assert first.is_dir()
    assert folders.scratch("memory://a") == first
