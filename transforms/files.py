"""Whole files on any file system Beam knows, written so that none is ever seen half."""

import contextlib
import hashlib
import io
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

_CHUNK = 1 << 22
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True, order=True)
class FileRecord:
    """A file of a stage, as its manifest lists it."""

    path: str  # relative to the stage
    size: int  # bytes
    sha256: str


def join(folder: str, *parts: str) -> str:
    """Join a folder, local or a URL, with further parts."""
    return FileSystems.join(folder, *parts)


def is_local(path: str) -> bool:
    """Say whether a path lies on this machine's own file system."""
    return FileSystems.get_scheme(path) is None


def local_path(path: str) -> Path:
    """Return a local path as a Path; ValueError for any other file system."""
    if not is_local(path):
        raise ValueError(f"{path!r} is not a local path")
    return Path(path)


def exists(path: str) -> bool:
    """Say whether a file is there."""
    return FileSystems.exists(path)


def open_file(path: str) -> io.BufferedIOBase:
    """Open a file for reading, as it is."""
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def read_bytes(path: str) -> bytes:
    """Read a whole file."""
    with open_file(path) as file:
        return file.read()


def write_bytes(path: str, content: bytes) -> None:
    """Write a whole file under another name and rename it, so that a killed writer leaves none."""
    if is_local(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    # Two attempts at the same file, on one machine or two, don't write into each other's.
    unfinished = f"{path}{_UNFINISHED}{uuid.uuid4().hex}"
    try:
        with FileSystems.create(unfinished, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            file.write(content)
        FileSystems.rename([unfinished], [path])
    except BaseException:
        with contextlib.suppress(Exception):  # the error that counts is the first
            delete_file(unfinished)
        raise


def write_record(folder: str, name: str, content: bytes) -> FileRecord:
    """Write `folder/name` and return its record."""
    write_bytes(join(folder, name), content)
    return record(name, content)


def record(name: str, content: bytes) -> FileRecord:
    """Return the record of a file with a content."""
    return FileRecord(name, len(content), hashlib.sha256(content).hexdigest())


def write_parquet(folder: str, name: str, table: pa.Table) -> FileRecord:
    """Write a table to `folder/name`; the same table gives the same bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return write_record(folder, name, buffer.getvalue())


def read_parquet(pattern: str, schema: pa.Schema) -> pa.Table:
    """Read all files that match a pattern, in the order of their names."""
    tables = [
        pq.read_table(pa.BufferReader(read_bytes(path)), columns=schema.names).cast(schema)
        for path in list_files(pattern)
    ]
    return pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()


def list_files(pattern: str) -> list[str]:
    """List the files that match a pattern, sorted."""
    if is_local(pattern) and os.path.isfile(pattern):
        return [pattern]
    found = (match.path for match in FileSystems.match([pattern])[0].metadata_list)
    return sorted(path for path in found if not (is_local(path) and os.path.isdir(path)))


def list_folder(folder: str) -> list[str]:
    """List all files below a folder, sorted; none where the folder is missing."""
    if is_local(folder):
        return sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())
    return list_files(join(folder, "**"))


def delete_unfinished(folder: str) -> None:
    """Delete what writers that were killed left below a folder."""
    for path in list_folder(folder):
        if _UNFINISHED in path.removeprefix(folder):
            delete_file(path)


def delete_file(path: str) -> None:
    """Delete a file, if it is there."""
    if exists(path):
        FileSystems.delete([path])


def delete_folder(folder: str) -> None:
    """Delete a folder and all below it, if it is there."""
    if is_local(folder):
        shutil.rmtree(folder, ignore_errors=True)
    elif found := list_folder(folder):
        FileSystems.delete(found)


def folder_records(folder: str) -> list[FileRecord]:
    """Return the records of all files below a local folder."""
    root = local_path(folder)
    return [
        FileRecord(str(Path(path).relative_to(root)), os.path.getsize(path), _sha256(path))
        for path in list_folder(folder)
    ]


def fingerprint(path: str) -> str:
    """Return what changes with a file's content: its sha256, or the remote store's checksum."""
    return _sha256(path) if is_local(path) else FileSystems.checksum(path)


def is_unchanged(folder: str, record: FileRecord) -> bool:
    """Say whether a file is as its record says; of a remote one only the size is compared."""
    path = join(folder, record.path)
    if size(path) != record.size:
        return False
    return not is_local(path) or _sha256(path) == record.sha256


def times(folder: str) -> list[float]:
    """Return when each file below a folder was written, in seconds since the epoch."""
    if is_local(folder):
        return [os.path.getmtime(path) for path in list_folder(folder)]
    found = FileSystems.match([join(folder, "**")])[0].metadata_list
    return [one.last_updated_in_seconds for one in found]


def size(path: str) -> int:
    """Return a file's size in bytes; -1 where there is none."""
    if is_local(path):  # whose name may hold what a pattern means something by
        return os.path.getsize(path) if os.path.exists(path) else -1
    found = FileSystems.match([path])[0].metadata_list
    return found[0].size_in_bytes if found else -1


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
