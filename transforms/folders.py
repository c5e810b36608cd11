"""Whole folders, such as a model's, between a workspace and the disk of a worker."""

import hashlib
import tempfile
from pathlib import Path

import fasteners

from transforms import files
from transforms.files import FileRecord


def local_copy(folder: str) -> str:
    """Return a local folder with the content of `folder`: itself, or a copy of a remote one.

    Copies are kept for the machine's lifetime, by the names and checksums of their files: a model
    that was trained again has the same sizes.
    """
    if files.is_local(folder):
        return folder
    listing = [(path, files.fingerprint(path)) for path in files.list_folder(folder)]
    key = hashlib.sha256(repr(listing).encode()).hexdigest()[:16]
    copy = Path(tempfile.gettempdir()) / f"interest-explorer-{key}"
    with fasteners.InterProcessLock(f"{copy}.lock"):  # one download for all workers of a machine
        for path, _ in listing:
            target = copy / path.removeprefix(folder).lstrip("/")
            if not target.exists():  # files are never seen half
                files.write_bytes(str(target), files.read_bytes(path))
    return str(copy)


def publish(source: str, folder: str) -> list[FileRecord]:
    """Copy a local folder's files to `folder` and return their records, relative to `folder`."""
    return [
        files.write_record(folder, record.path, Path(source, record.path).read_bytes())
        for record in files.folder_records(source)
    ]


def scratch(folder: str) -> Path:
    """Return a local folder to work in: `folder` itself, or one of this worker for a remote one."""
    if files.is_local(folder):
        path = Path(folder)
    else:
        key = hashlib.sha256(folder.encode()).hexdigest()[:16]
        path = Path(tempfile.gettempdir()) / f"interest-explorer-{key}"
    path.mkdir(parents=True, exist_ok=True)
    return path
