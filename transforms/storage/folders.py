"""Copies whole folders, such as a model, between a workspace and the disk of a worker."""

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import fasteners

from transforms.errors import InputError
from transforms.storage import cloud_storage, files
from transforms.storage.files import FileRecord
from transforms.storage.manifest import parse, parse_record
from transforms.storage.paths import inside

log = logging.getLogger("interest-explorer")

_INDEX = "index.json"
_FULL_BYTES = 1 << 16  # free on a disk where no file of a model fits


def local_copy(folder: str) -> str:
    """Return a local folder with the content of `folder`, which is downloaded if it is remote.

    A copy appears whole. It stays on the machine, under a name made of the names and checksums of
    its files: a model that was trained again has the same sizes.
    """
    if files.is_local(folder):
        return folder
    listing = [(stored.path, stored.crc32c) for stored in cloud_storage.listing(folder)]
    copy = _temporary(repr(listing))
    with fasteners.InterProcessLock(f"{copy}.lock"):  # one download for all workers of a machine
        if not copy.exists():
            with _renamed(copy) as unfinished:
                cloud_storage.download(
                    (path, Path(inside(str(unfinished), path.removeprefix(folder).lstrip("/"))))
                    for path, _ in listing
                )
    return str(copy)


def _temporary(key: str) -> Path:
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"interest-explorer-{name}"


@contextmanager
def _renamed(folder: Path) -> Iterator[Path]:
    """Yield another, empty folder, and rename it to `folder` on success."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a killed process
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def publish(source: str, folder: str) -> list[FileRecord]:
    """Copy the files of a local folder to `folder` and return their records."""
    records = files.folder_records(source)
    for record in records:
        files.copy_from(Path(source, record.path), files.join(folder, record.path))
    return records


@dataclass(frozen=True)
class Scratch:
    """A local folder to work in, with checkpoints that outlive the worker.

    In Cloud Storage checkpoints are named by their checksums, so that a file is sent once. An index
    of them is written last, so that it always names complete files.
    """

    path: Path
    kept: str | None = None  # where checkpoints are kept; None: in `path`, which is kept itself

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def bring(self, paths: Sequence[str], name: str) -> list[str]:
        """Return local paths of files; remote files are copied to a folder `name` in this one."""
        if all(map(files.is_local, paths)):
            return list(paths)
        folder = str(self.path / name)
        copies = [Path(inside(folder, path.rsplit("/", 1)[1])) for path in paths]
        cloud_storage.download(zip(paths, copies, strict=True))
        return list(map(str, copies))

    def save(self) -> None:
        """Keep the present content of `checkpoints`, as a whole."""
        if self.kept is None:
            return
        there = {stored.path: stored.crc32c for stored in cloud_storage.listing(self.kept)}
        records = files.folder_records(str(self.checkpoints))
        wanted = {files.join(self.kept, record.sha256): record for record in records}
        for path, record in wanted.items():
            if there.get(path) != record.crc32c:  # missing, or damaged since
                cloud_storage.upload(self.checkpoints / record.path, path)
        index = files.join(self.kept, _INDEX)
        files.write_bytes(index, json.dumps({"files": list(map(asdict, records))}).encode())
        cloud_storage.delete(sorted(there.keys() - {*wanted, index}))

    def restore(self) -> None:
        """Bring back the last saved checkpoints, if there are any.

        Each checkpoint says itself whether it is whole: see `models.common.checkpoints`.
        """
        from google.api_core.exceptions import NotFound

        if self.kept is None:
            return
        index = files.join(self.kept, _INDEX)
        if (content := files.read_if_there(index)) is None:
            return
        listed = (parse(content) or {}).get("files")
        records = [parse_record(one) for one in listed] if isinstance(listed, list) else [None]
        if None in records:
            log.warning("%s is damaged: no checkpoint is used", index)
            return
        try:
            cloud_storage.download(
                (
                    inside(self.kept, record.sha256),
                    Path(inside(str(self.checkpoints), record.path)),
                )
                for record in records
                if record is not None
            )
        except NotFound:  # another worker on the same work deleted a file
            shutil.rmtree(self.checkpoints, ignore_errors=True)


@contextmanager
def scratch(folder: str) -> Iterator[Scratch]:
    """Yield a folder to work in, with the checkpoints of an interrupted run.

    The checkpoints are kept in `folder`. If it is local, it is the folder to work in.
    """
    if files.is_local(folder):
        work = Scratch(Path(folder))
        work.path.mkdir(parents=True, exist_ok=True)
        with _naming_a_full_disk(work.path):
            yield work
        return
    work = Scratch(_temporary(folder), files.join(folder, "checkpoints"))
    shutil.rmtree(work.path, ignore_errors=True)  # of a killed process
    work.path.mkdir(parents=True)
    try:
        with _naming_a_full_disk(work.path):
            work.restore()
            yield work
    finally:
        shutil.rmtree(work.path, ignore_errors=True)


@contextmanager
def _naming_a_full_disk(folder: Path) -> Iterator[None]:
    """Raise OSError where a library failed because the disk is full, which some do not say."""
    try:
        yield
    except (InputError, OSError):
        raise
    except Exception as error:
        if shutil.disk_usage(folder).free >= _FULL_BYTES:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
