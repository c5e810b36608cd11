"""Whole files on a local disk or at gs://, written so that none is ever seen half."""

import base64
import contextlib
import hashlib
import io
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from transforms.errors import InputError
from transforms.storage import cloud_storage

_CHUNK = 1 << 22
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True, order=True)
class FileRecord:
    """A file of a stage, as its manifest lists it."""

    path: str  # relative to the stage
    size: int  # bytes
    sha256: str
    crc32c: str = ""  # in base64: the checksum that Cloud Storage has of each object


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
    return os.path.exists(path) if is_local(path) else cloud_storage.find(path) is not None


def open_file(path: str) -> io.BufferedIOBase:
    """Open a file for reading, as it is."""
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def read_bytes(path: str) -> bytes:
    """Read a whole file; FileNotFoundError where there is none."""
    content = read_if_there(path)
    if content is None:
        raise FileNotFoundError(f"there is no {path}")
    return content


def read_if_there(path: str) -> bytes | None:
    """Read a whole file; None where there is none."""
    if not is_local(path):
        return cloud_storage.read(path)
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None


def write_bytes(path: str, content: bytes) -> None:
    """Write a whole file, so that a killed writer leaves none."""
    if not is_local(path):
        return cloud_storage.write(path, content)
    with _renamed(path) as unfinished:
        Path(unfinished).write_bytes(content)


def copy_from(source: Path, path: str) -> None:
    """Copy a local file, of any size, so that a killed writer leaves none."""
    if not is_local(path):
        return cloud_storage.upload(source, path)
    with _renamed(path) as unfinished:
        shutil.copyfile(source, unfinished)


@contextlib.contextmanager
def _renamed(path: str) -> Iterator[str]:
    """Give another name to write a local file under, and rename it once it is whole."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    # Two attempts at the same file don't write into each other's.
    unfinished = f"{path}{_UNFINISHED}{uuid.uuid4().hex}"
    try:
        yield unfinished
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the error that counts is the first
            os.remove(unfinished)
        raise


def write_record(folder: str, name: str, content: bytes) -> FileRecord:
    """Write `folder/name` and return its record."""
    write_bytes(join(folder, name), content)
    return record(name, content)


def record(name: str, content: bytes) -> FileRecord:
    """Return the record of a file with a content."""
    return _record(name, [content])


def _record(name: str, chunks: Iterable[bytes]) -> FileRecord:
    size, sha256, crc32c = 0, hashlib.sha256(), google_crc32c.Checksum()
    for chunk in chunks:
        size += len(chunk)
        sha256.update(chunk)
        crc32c.update(chunk)
    return FileRecord(name, size, sha256.hexdigest(), base64.b64encode(crc32c.digest()).decode())


def write_parquet(folder: str, name: str, table: pa.Table) -> FileRecord:
    """Write a table to `folder/name`; the same table gives the same bytes."""
    return write_row_groups(folder, name, table.schema, [table])


def write_row_groups(
    folder: str, name: str, schema: pa.Schema, tables: Iterable[pa.Table]
) -> FileRecord:
    """Write tables to `folder/name`, one at a time, each as row groups of its own."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
    return write_record(folder, name, buffer.getvalue())


def read_parquet(path: str, schema: pa.Schema) -> pa.Table:
    """Read a file; FileNotFoundError, or at gs:// NotFound, where there is none."""
    return _read_parquet([path], schema)


def read_parts(folder: str, schema: pa.Schema) -> pa.Table:
    """Read all Parquet files below a folder, in the order of their names."""
    return _read_parquet(
        [path for path in list_folder(folder) if path.endswith(".parquet")], schema
    )


def _read_parquet(paths: list[str], schema: pa.Schema) -> pa.Table:
    # No thread of Arrow's, as pq.read_table has them, may hold `content` when the interpreter ends:
    # letting it go then ends the process with an abort, in place of its exit code.
    tables = [
        pq.ParquetFile(pa.BufferReader(content)).read(schema.names, use_threads=False).cast(schema)
        for content in _read_all(paths)
    ]
    return pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()


def _read_all(paths: list[str]) -> Iterable[bytes]:
    if not paths or is_local(paths[0]):
        return map(read_bytes, paths)
    return cloud_storage.read_all(paths)


def list_files(pattern: str) -> list[str]:
    """List the files that match a pattern, sorted."""
    if is_local(pattern) and os.path.isfile(pattern):
        return [pattern]
    found = (match.path for match in FileSystems.match([pattern])[0].metadata_list)
    return sorted(path for path in found if not (is_local(path) and os.path.isdir(path)))


def list_folder(folder: str) -> list[str]:
    """List all files below a folder, as `join` spells them, sorted; none where it is missing."""
    if is_local(folder):
        found = (path for path in Path(folder).rglob("*") if path.is_file())
        return sorted(join(folder, str(path.relative_to(folder))) for path in found)
    return [stored.path for stored in cloud_storage.listing(folder)]


def delete_unfinished(folder: str) -> None:
    """Delete what writers that were killed left below a folder; at gs:// they leave nothing."""
    if is_local(folder):
        for path in list_folder(folder):
            if _UNFINISHED in path.removeprefix(folder):
                delete_file(path)


def delete_file(path: str) -> None:
    """Delete a file, if it is there."""
    if is_local(path):
        Path(path).unlink(missing_ok=True)
    else:
        cloud_storage.delete([path])


def delete_folder(folder: str) -> None:
    """Delete a folder and all below it, if it is there."""
    if is_local(folder):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        cloud_storage.delete(list_folder(folder))


def folder_records(folder: str) -> list[FileRecord]:
    """Return the records of all files below a local folder."""
    root = local_path(folder)
    return [_local_record(root, str(Path(path).relative_to(root))) for path in list_folder(folder)]


def _local_record(root: Path, name: str) -> FileRecord:
    with open(root / name, "rb") as file:
        return _record(name, iter(lambda: file.read(_CHUNK), b""))


def fingerprints(paths: Sequence[str]) -> list[str]:
    """Return what changes with the content of files of one place: sha256, or at gs:// CRC-32C.

    Those at gs:// are listed, not asked for one by one.

    Raises
    ------
    InputError
        If a file is gone since it was found.
    """
    if not paths or is_local(paths[0]):
        found = {path: _sha256(path) for path in paths if os.path.isfile(path)}
    else:
        # Cloud Storage lists by leading characters, whatever folders they end in: so commonprefix.
        listed = cloud_storage.starting_with(os.path.commonprefix(paths))  # noqa: RUF071
        found = {stored.path: stored.crc32c for stored in listed}
    if gone := [path for path in paths if path not in found]:
        raise InputError(f"{gone[0]} is gone since it was found: is it still being written?")
    return [found[path] for path in paths]


def altered(folder: str, records: Iterable[FileRecord]) -> list[FileRecord]:
    """Return the records of a folder's files that are missing or not as they were written."""
    is_unchanged = checker(folder)
    return [record for record in records if not is_unchanged(record)]


def checker(folder: str) -> Callable[[FileRecord], bool]:
    """Return what says whether a file of a folder is as its record says.

    A local file is read again; a folder at gs:// is listed once, now.
    """
    if is_local(folder):
        return lambda record: _is_unchanged(Path(folder, record.path), record)
    stored = {found.path: (found.size, found.crc32c) for found in cloud_storage.listing(folder)}
    return lambda record: stored.get(join(folder, record.path)) == (record.size, record.crc32c)


def _is_unchanged(path: Path, record: FileRecord) -> bool:
    if not path.is_file() or path.stat().st_size != record.size:
        return False
    return _sha256(str(path)) == record.sha256


def times(folder: str) -> list[float]:
    """Return when each file below a folder was written, in seconds since the epoch."""
    if is_local(folder):
        return [os.path.getmtime(path) for path in list_folder(folder)]
    return [stored.updated for stored in cloud_storage.listing(folder)]


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
