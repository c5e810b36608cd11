"""Folders between a remote workspace and the local disk."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from transforms.errors import InputError
from transforms.storage import cloud_storage, files, folders


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch) -> Path:
    """Return what takes the place of /tmp."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setattr(folders.tempfile, "gettempdir", lambda: str(folder))
    return folder


@pytest.fixture
def remote(storage) -> str:
    return f"gs://{storage.bucket}/model"


def write(folder: str, content: dict[str, bytes]) -> None:
    for name, value in content.items():
        files.write_bytes(files.join(folder, name), value)


def content(folder: str) -> dict[str, bytes]:
    return {
        str(Path(path).relative_to(folder)): files.read_bytes(path)
        for path in files.list_folder(folder)
    }


def test_a_local_folder_is_its_own_copy(tmp_path: Path) -> None:
    assert folders.local_copy(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize("end", ["", "/"])
def test_a_copy_has_all_files_of_the_remote_folder(remote: str, end: str) -> None:
    write(remote, {"a": b"1", "b/c": b"2"})
    assert content(folders.local_copy(remote + end)) == {"a": b"1", "b/c": b"2"}


def test_a_copy_is_made_once(remote: str, monkeypatch) -> None:
    write(remote, {"a": b"1"})
    first = folders.local_copy(remote)
    monkeypatch.setattr(cloud_storage, "download", lambda *_: pytest.fail("copied again"))
    assert folders.local_copy(remote) == first


def test_a_model_trained_again_is_copied_again_though_its_sizes_are_the_same(remote: str) -> None:
    write(remote, {"weights": b"old"})
    old = folders.local_copy(remote)
    write(remote, {"weights": b"new"})
    assert content(folders.local_copy(remote)) == {"weights": b"new"}
    assert content(old) == {"weights": b"old"}  # somebody may be reading it


def test_a_copy_that_fails_leaves_nothing(remote: str, temporary: Path, monkeypatch) -> None:
    write(remote, {"a": b"1", "b": b"2"})
    download = cloud_storage.download

    def half(copies) -> None:
        download(list(copies)[:1])
        raise ConnectionError

    monkeypatch.setattr(cloud_storage, "download", half)
    with pytest.raises(ConnectionError):
        folders.local_copy(remote)
    assert [path for path in temporary.iterdir() if path.is_dir()] == []


def test_a_copy_that_was_killed_is_made_again(remote: str) -> None:
    write(remote, {"a": b"1"})
    copy = Path(folders.local_copy(remote))
    copy.rename(f"{copy}.unfinished")
    write(f"{copy}.unfinished", {"a": b"ha", "stray": b""})
    assert content(folders.local_copy(remote)) == {"a": b"1"}


@pytest.mark.parametrize("at", ["local", "remote"])
def test_publishing_copies_files_and_records_them(request, tmp_path: Path, at: str) -> None:
    source = tmp_path / "source"
    write(str(source), {"a": b"a", "b/c": b"b/c"})
    target = str(tmp_path / "target") if at == "local" else request.getfixturevalue("remote")
    records = folders.publish(str(source), target)
    assert records == [files.record(name, name.encode()) for name in ("a", "b/c")]
    assert files.altered(target, records) == []


def test_a_local_folder_is_worked_in_itself(tmp_path: Path) -> None:
    with folders.scratch(str(tmp_path / "new" / "work")) as work:
        assert work.path == tmp_path / "new" / "work"
        write(str(work.checkpoints), {"a": b"1"})
        work.save()
    with folders.scratch(str(tmp_path / "new" / "work")) as work:
        assert content(str(work.checkpoints)) == {"a": b"1"}


def test_each_remote_folder_has_a_scratch_folder_of_its_own(remote: str, temporary: Path) -> None:
    with folders.scratch(remote) as one, folders.scratch(f"{remote}2") as other:
        assert one.path != other.path
        assert one.path.is_dir()
    assert list(temporary.iterdir()) == []


def test_checkpoints_survive_the_worker(remote: str) -> None:
    with folders.scratch(remote) as work:
        write(str(work.checkpoints), {"run/1/weights": b"one", "run/1/state": b"{}"})
        work.save()
        write(str(work.checkpoints), {"run/2/weights": b"ha"})  # and then it is gone
    with folders.scratch(remote) as work:
        assert content(str(work.checkpoints)) == {"run/1/weights": b"one", "run/1/state": b"{}"}


def test_the_last_checkpoints_alone_are_kept(remote: str) -> None:
    with folders.scratch(remote) as work:
        write(str(work.checkpoints), {"1": b"one", "best": b"best"})
        work.save()
        shutil.rmtree(work.checkpoints)
        write(str(work.checkpoints), {"2": b"two", "best": b"best"})
        work.save()
    kept = content(f"{remote}/checkpoints")
    del kept["index.json"]
    assert sorted(kept.values()) == [b"best", b"two"]
    with folders.scratch(remote) as work:
        assert content(str(work.checkpoints)) == {"2": b"two", "best": b"best"}


def test_a_checkpoint_that_was_damaged_is_sent_again(remote: str) -> None:
    kept = f"{remote}/checkpoints/{files.record('a', b'one').sha256}"
    with folders.scratch(remote) as work:
        write(str(work.checkpoints), {"a": b"one"})
        work.save()
        files.write_bytes(kept, b"oNe")
        work.save()
    assert files.read_bytes(kept) == b"one"


@pytest.mark.parametrize("step", ["upload", "write", "delete"])
def test_a_worker_killed_while_it_saves_has_the_checkpoints_of_before_or_after(
    remote: str, monkeypatch, step: str
) -> None:
    with folders.scratch(remote) as work:
        write(str(work.checkpoints), {"a": b"old", "b": b"old b"})
        work.save()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, folders.scratch(remote) as work:
        write(str(work.checkpoints), {"a": b"new", "b": b"new b"})
        patch.setattr(cloud_storage, step, die)
        with pytest.raises(KeyboardInterrupt):
            work.save()
    with folders.scratch(remote) as work:
        after = {"a": b"new", "b": b"new b"}
        before = {"a": b"old", "b": b"old b"}
        assert content(str(work.checkpoints)) == (after if step == "delete" else before)


def test_checkpoints_that_another_worker_deleted_are_no_checkpoints(remote: str) -> None:
    with folders.scratch(remote) as work:
        write(str(work.checkpoints), {"a": b"1", "b": b"2"})
        work.save()
    gone = files.record("a", b"1").sha256
    files.delete_file(f"{remote}/checkpoints/{gone}")
    with folders.scratch(remote) as work:
        assert not work.checkpoints.exists()


@pytest.mark.parametrize("index", [b"", b"{", b"[]", b'{"files": [1]}', b'{"files": 1}', b"\xff"])
def test_a_damaged_index_is_a_warning_and_no_checkpoint(remote: str, caplog, index: bytes) -> None:
    with folders.scratch(remote) as work:
        write(str(work.checkpoints), {"a": b"1"})
        work.save()
    files.write_bytes(f"{remote}/checkpoints/index.json", index)
    with folders.scratch(remote) as work:
        assert not work.checkpoints.exists()
    assert caplog.messages == [f"{remote}/checkpoints/index.json is damaged: no checkpoint is used"]


@pytest.mark.parametrize("name", ["../../../x", "/tmp/x", "a/../../x"])
def test_no_checkpoint_is_written_outside(remote: str, temporary: Path, name: str) -> None:
    with folders.scratch(remote) as work:
        write(str(work.checkpoints), {"a": b"1"})
        work.save()
    index = f"{remote}/checkpoints/index.json"
    for key, value in (("path", name), ("sha256", f"../{name}")):
        listed = json.loads(files.read_bytes(index))
        before = dict(listed["files"][0])
        listed["files"][0][key] = value
        files.write_bytes(index, json.dumps(listed).encode())
        with pytest.raises(InputError, match="not below it"), folders.scratch(remote):
            pass
        files.write_bytes(index, json.dumps({"files": [before]}).encode())
    assert [path for path in temporary.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["../../../x", "a/../../x", ".."])
def test_an_object_is_not_copied_outside(remote: str, temporary: Path, monkeypatch, name) -> None:
    stored = cloud_storage.Stored(f"{remote}/{name}", 1, "", 0.0)
    monkeypatch.setattr(cloud_storage, "listing", lambda folder: [stored])
    with pytest.raises(InputError, match="not below it"):
        folders.local_copy(remote)
    assert not (temporary.parent / "x").exists()


def test_what_a_killed_worker_left_on_the_disk_is_not_taken_up(remote: str) -> None:
    with folders.scratch(remote) as work:
        path = work.checkpoints
    write(str(path), {"of another run": b""})
    with folders.scratch(remote):
        assert not path.exists()


def test_local_files_are_brought_as_they_are(tmp_path: Path) -> None:
    with folders.scratch(str(tmp_path / "work")) as work:
        assert work.bring([str(tmp_path / "a"), str(tmp_path / "b")], "in") == [
            str(tmp_path / "a"),
            str(tmp_path / "b"),
        ]


def test_remote_files_are_brought_to_the_disk_and_not_kept(remote: str) -> None:
    write(f"{remote}/shards", {"a": b"1", "b": b"2"})
    with folders.scratch(f"{remote}/work") as work:
        paths = work.bring([f"{remote}/shards/b", f"{remote}/shards/a"], "in")
        assert [Path(path).read_bytes() for path in paths] == [b"2", b"1"]
        assert {Path(path).parent for path in paths} == {work.path / "in"}
        work.save()
    assert not work.path.exists()
    with folders.scratch(f"{remote}/work") as work:
        assert list(work.path.iterdir()) == []


@pytest.mark.parametrize(("free", "raised"), [(0, OSError), (1 << 30, RuntimeError)])
def test_a_library_that_fails_on_a_full_disk_is_an_error_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, raised: type[Exception]
) -> None:
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(raised), folders.scratch(str(tmp_path / "work")):
        raise RuntimeError("unexpected pos 320 vs 214")  # as PyTorch says it


def test_an_error_of_the_user_stays_one_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(InputError), folders.scratch(str(tmp_path / "work")):
        raise InputError("--finetune_max_steps is wrong")
