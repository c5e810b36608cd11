"""Whole files on a local disk or at gs://; readers never see a part of a file.

Beam's FileSystems joins, matches and opens paths. It has no atomic local write, no SHA-256, and no
listing with checksums; fsspec and gcsfs lack the same, so these are here and in cloud_storage.
"""

import base64
import contextlib
import hashlib
import io
import os
import re
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

_CHUNK = 1 << 22  # bytes
_UNFINISHED = ".unfinished-"
LEFT_BY_KILLED = re.compile(r".*\.unfinished-[0-9a-f]{32}", re.DOTALL)  # names of such files


@dataclass(frozen=True, order=True)
class FileRecord:
    """A file of a stage, as the manifest lists it."""

    path: str  # relative to the stage
    size: int  # bytes
    sha256: str
    crc32c: str = ""  # in base64, as Cloud Storage keeps it


def join(folder: str, *parts: str) -> str:
    """Join a folder, local or a URL, with further parts."""
    return FileSystems.join(folder, *parts)


def is_local(path: str) -> bool:
    """Return whether a path is in the file system of this machine."""
    return FileSystems.get_scheme(path) is None


def exists(path: str) -> bool:
    """Return whether a file exists."""
    return FileSystems.exists(path)


def open_file(path: str) -> io.BufferedIOBase:
    """Open a file for reading, without decompression."""
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def read_bytes(path: str) -> bytes:
    """Read a file; FileNotFoundError if it is missing."""
    content = read_if_there(path)
    if content is None:
        raise FileNotFoundError(f"there is no {path}")
    return content


def read_if_there(path: str) -> bytes | None:
    """Read a file; None if it is missing."""
    if not is_local(path):
        return cloud_storage.read(path)
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None


def write_bytes(path: str, content: bytes) -> None:
    """Write a file atomically."""
    if not is_local(path):
        return cloud_storage.write(path, content)
    with _renamed(path) as unfinished:
        Path(unfinished).write_bytes(content)


def copy_from(source: Path, path: str) -> None:
    """Copy a local file of any size atomically."""
    if not is_local(path):
        return cloud_storage.upload(source, path)
    with _renamed(path) as unfinished:
        shutil.copyfile(source, unfinished)


@contextlib.contextmanager
def _renamed(path: str) -> Iterator[str]:
    """Yield another path to write to, and rename it to `path` on success."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    # Each attempt has a name of its own, so that two attempts cannot mix.
    unfinished = f"{path}{_UNFINISHED}{uuid.uuid4().hex}"
    try:
        yield unfinished
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):  # raise the first error
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
    """Write a table to `folder/name`; equal tables give equal bytes."""
    return write_row_groups(folder, name, table.schema, [table])


def write_row_groups(
    folder: str, name: str, schema: pa.Schema, tables: Iterable[pa.Table]
) -> FileRecord:
    """Write tables to `folder/name`, one at a time, each in its own row groups."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
    return write_record(folder, name, buffer.getvalue())


def read_parquet(path: str, schema: pa.Schema) -> pa.Table:
    """Read a file; FileNotFoundError, or NotFound at gs://, if it is missing."""
    return to_table(read_all([path]), schema)


def to_table(contents: Iterable[bytes], schema: pa.Schema) -> pa.Table:
    """Return the rows of Parquet files with some contents."""
    # Without threads, as pq.read_table has them: an Arrow thread that still holds `content` when
    # the interpreter ends aborts the process, and its exit code is lost.
    tables = [
        pq.ParquetFile(pa.BufferReader(content)).read(schema.names, use_threads=False).cast(schema)
        for content in contents
    ]
    return pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()


def read_all(paths: Sequence[str]) -> Iterable[bytes]:
    """Read files of one place, in their order."""
    if not paths or is_local(paths[0]):
        return map(read_bytes, paths)
    return cloud_storage.read_all(paths)


def list_folder(folder: str) -> list[str]:
    """List all files below a folder, sorted, with paths as `join` makes them."""
    if is_local(folder):
        found = (path for path in Path(folder).rglob("*") if path.is_file())
        return sorted(join(folder, str(path.relative_to(folder))) for path in found)
    return [stored.path for stored in cloud_storage.listing(folder)]


def delete_file(path: str) -> None:
    """Delete a file, if it exists."""
    if is_local(path):
        Path(path).unlink(missing_ok=True)
    else:
        cloud_storage.delete([path])


def delete_files(paths: Sequence[str], folder: str) -> None:
    """Delete files below a folder, and the local folders between that become empty."""
    if not is_local(folder):
        return cloud_storage.delete(paths)
    for path in paths:
        Path(path).unlink(missing_ok=True)
    between = {parent for path in paths for parent in Path(path).parents}
    for parent in sorted(between, key=lambda each: len(each.parts), reverse=True):
        if Path(folder) in parent.parents and not any(parent.iterdir()):
            parent.rmdir()


def delete_folder(folder: str, keep: str | None = None) -> None:
    """Delete a folder, if it exists, and all files below it; or all but the file `keep` in it.

    A symbolic link to a folder stays, and so does what a link in the folder leads to.
    """
    if not is_local(folder):
        kept = {join(folder, keep)} if keep else set()
        return cloud_storage.delete(path for path in list_folder(folder) if path not in kept)
    if not os.path.isdir(folder):
        return
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry)
        elif entry.name != keep:
            os.remove(entry)
    if keep is None and not os.path.islink(folder):
        os.rmdir(folder)


def folder_records(folder: str) -> list[FileRecord]:
    """Return the records of all files below a local folder."""
    return [
        _local_record(folder, str(Path(path).relative_to(folder))) for path in list_folder(folder)
    ]


def _local_record(folder: str, name: str) -> FileRecord:
    with open(Path(folder, name), "rb") as file:
        return _record(name, iter(lambda: file.read(_CHUNK), b""))


def fingerprints(paths: Sequence[str]) -> list[str]:
    """Return the checksums of files of one place: SHA-256, or CRC-32C at gs:// (in one listing).

    Raises InputError if a file is missing.
    """
    if not paths or is_local(paths[0]):
        found = {path: _sha256(path) for path in paths if os.path.isfile(path)}
    else:
        # Cloud Storage lists by leading characters, not by folders: so commonprefix.
        listed = cloud_storage.starting_with(os.path.commonprefix(paths))  # noqa: RUF071
        found = {stored.path: stored.crc32c for stored in listed}
    if gone := [path for path in paths if path not in found]:
        raise InputError(f"{gone[0]} is gone since it was found: is it still being written?")
    return [found[path] for path in paths]


def altered(folder: str, records: Iterable[FileRecord]) -> list[FileRecord]:
    """Return the records of files that are missing or changed."""
    is_unchanged = checker(folder)
    return [record for record in records if not is_unchanged(record)]


def checker(folder: str) -> Callable[[FileRecord], bool]:
    """Return a function that says whether a file of a folder matches its record.

    It reads local files again; a folder at gs:// is listed once, now.
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
    """Return the modification times of all files below a folder, in seconds since 1970."""
    if is_local(folder):
        return [os.path.getmtime(path) for path in list_folder(folder)]
    return [stored.updated for stored in cloud_storage.listing(folder)]


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
