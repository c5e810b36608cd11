"""Whole folders, such as a model's, between a workspace and the disk of a worker."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import fasteners

from transforms.storage import cloud_storage, files
from transforms.storage.files import FileRecord

_INDEX = "index.json"


def local_copy(folder: str) -> str:
    """Return a local folder with the content of `folder`: itself, or a copy of a remote one.

    Copies are kept for the machine's lifetime, by the names and checksums of their files: a model
    that was trained again has the same sizes. A copy is there whole or not at all.
    """
    if files.is_local(folder):
        return folder
    listing = [(stored.path, stored.crc32c) for stored in cloud_storage.listing(folder)]
    copy = _temporary(repr(listing))
    with fasteners.InterProcessLock(f"{copy}.lock"):  # one download for all workers of a machine
        if not copy.exists():
            with _renamed(copy) as unfinished:
                cloud_storage.download(
                    (path, unfinished / path.removeprefix(folder).lstrip("/"))
                    for path, _ in listing
                )
    return str(copy)


def _temporary(key: str) -> Path:
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"interest-explorer-{name}"


@contextmanager
def _renamed(folder: Path) -> Iterator[Path]:
    """Give a new folder to fill, and rename it once it is whole."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of one who was killed
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def publish(source: str, folder: str) -> list[FileRecord]:
    """Copy a local folder's files to `folder` and return their records, relative to `folder`."""
    records = files.folder_records(source)
    for record in records:
        files.copy_from(Path(source, record.path), files.join(folder, record.path))
    return records


@dataclass(frozen=True)
class Scratch:
    """A local folder to work in, whose checkpoints outlive the worker.

    Attributes
    ----------
    path
        The folder.
    checkpoints
        A folder in it. `save` keeps what it holds at that moment, as a whole.
    kept
        Where `save` keeps it, in Cloud Storage; None where the folder itself is kept.

    Checkpoints go by their checksums, so that one that was kept before is not sent again, and an
    index of them is written last: whatever is killed, the index names files that are there.
    """

    path: Path
    kept: str | None = None

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def bring(self, paths: Sequence[str], name: str) -> list[str]:
        """Return files as local ones: themselves, or copies of remote ones in a folder in this."""
        if all(map(files.is_local, paths)):
            return list(paths)
        copies = [self.path / name / path.rsplit("/", 1)[1] for path in paths]
        cloud_storage.download(zip(paths, copies, strict=True))
        return list(map(str, copies))

    def save(self) -> None:
        """Keep the checkpoints as they are now."""
        if self.kept is None:
            return
        there = set(files.list_folder(self.kept))
        records = files.folder_records(str(self.checkpoints))
        wanted = {files.join(self.kept, record.sha256): record for record in records}
        for path, record in wanted.items():
            if path not in there:
                cloud_storage.upload(self.checkpoints / record.path, path)
        index = files.join(self.kept, _INDEX)
        files.write_bytes(index, json.dumps([asdict(record) for record in records]).encode())
        cloud_storage.delete(sorted(there - {*wanted, index}))

    def restore(self) -> None:
        """Bring back what was kept last, if anything was."""
        from google.api_core.exceptions import NotFound

        if self.kept is None:
            return
        content = files.read_if_there(files.join(self.kept, _INDEX)) or b"[]"
        try:
            cloud_storage.download(
                (files.join(self.kept, record["sha256"]), self.checkpoints / record["path"])
                for record in json.loads(content)
            )
        except NotFound:  # two workers at the same work: what one kept, the other deleted
            shutil.rmtree(self.checkpoints, ignore_errors=True)


@contextmanager
def scratch(folder: str) -> Iterator[Scratch]:
    """Give a local folder to work in, with the checkpoints that an interrupted run kept.

    Parameters
    ----------
    folder
        Where checkpoints are kept: if it is local, it is the folder that is worked in.
    """
    if files.is_local(folder):
        work = Scratch(Path(folder))
        work.path.mkdir(parents=True, exist_ok=True)
        yield work
        return
    work = Scratch(_temporary(folder), files.join(folder, "checkpoints"))
    shutil.rmtree(work.path, ignore_errors=True)  # of one who was killed
    work.path.mkdir(parents=True)
    try:
        work.restore()
        yield work
    finally:
        shutil.rmtree(work.path, ignore_errors=True)
