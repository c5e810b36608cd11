"""The files of a complete stage: those that its manifest lists, and no other."""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pyarrow as pa

from transforms.errors import InputError
from transforms.storage import files
from transforms.storage.files import FileRecord
from transforms.storage.manifest import MANIFEST, read_manifest
from transforms.storage.paths import inside

SHARDS = "part-*"  # in a pattern of file names: those of `shard_file`
_SHARD = r"part-\d{5}-of-\d{5}"


def records_of(manifest: dict[str, Any]) -> list[FileRecord]:
    """Return the records of the files that a manifest lists."""
    return [FileRecord(**file) for file in manifest["files"]]


def read_parts(folder: str, name: str, schema: pa.Schema) -> pa.Table:
    """Read the Parquet files in the subfolder `name` of a stage ("" for all), sorted by name.

    Raises InputError if the stage is not complete or a file is not as the manifest says.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(f"{folder} is not complete; rerun the pipeline that writes it")
    begin = f"{name}/" if name else ""
    records = sorted(
        record
        for record in records_of(manifest)
        if record.path.startswith(begin) and record.path.endswith(".parquet")
    )
    contents = files.read_all([files.join(folder, record.path) for record in records])
    checked = (_checked(folder, *pair) for pair in zip(records, contents, strict=True))
    return files.to_table(checked, schema)


def _checked(folder: str, record: FileRecord, content: bytes) -> bytes:
    if files.record(record.path, content).sha256 != record.sha256:
        raise InputError(
            f"{files.join(folder, record.path)} was altered while it was in use; rerun the "
            "pipeline that writes it"
        )
    return content


def names_in(folder: str) -> list[str]:
    """List the names of all files below the folder of a stage, but for its manifest."""
    paths = files.list_folder(folder)
    names = (path.removeprefix(folder).removeprefix("/") for path in paths)
    return [name for name in names if name != MANIFEST]


def refuse_others(folder: str, ours: Collection[str], names: Collection[str]) -> None:
    """Raise InputError if one of the names in a folder is not ours and could be read as data."""
    for name in sorted({*names} - {*ours} - left_by_killed(names)):
        if not re.search(r"(^|/)\.|\.(log|md|txt)$", name):  # hidden, or notes of the user
            raise InputError(
                f"{files.join(folder, name)} is not a file that the pipeline wrote; move it to "
                "another folder, or give another --workspace"
            )


def refuse_unlisted(folder: str, manifest: dict[str, Any]) -> None:
    """Raise InputError if the folder of a complete stage holds data that its manifest does not."""
    refuse_others(folder, {record.path for record in records_of(manifest)}, names_in(folder))


def matching(names: Iterable[str], patterns: Sequence[str]) -> set[str]:
    """Return the names that match a pattern.

    `*` stands for any text without a slash, and SHARDS for the names of shards.
    """
    parts = (
        re.escape(one).replace(re.escape(SHARDS), _SHARD).replace(r"\*", "[^/]*")
        for one in patterns
    )
    pattern = re.compile("|".join(parts))
    return {name for name in names if pattern.fullmatch(name)}


def left_by_killed(names: Iterable[str]) -> set[str]:
    """Return the names of the files that killed writers left."""
    return {name for name in names if files.LEFT_BY_KILLED.fullmatch(name)}


def delete(folder: str, names: Iterable[str]) -> None:
    """Delete files of a stage, and the local folders that become empty."""
    files.delete_files([inside(folder, name) for name in sorted(names)], folder)
