"""Which files a flag names: one file, a folder with everything below it, or a pattern.

A folder is read whole, or refused with the name of what cannot be read. As in Spark and Arrow,
names that begin with a dot or an underscore are no data.
"""

import fnmatch
import glob
import os
import re
import stat
from collections.abc import Iterator
from urllib.parse import unquote

from transforms.errors import InputError
from transforms.storage import cloud_storage, files

_WILDCARD = re.compile(r"[*?\[]")
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def find_files(pattern: str, name: str) -> list[str]:
    """List the files of the flag --`name`, sorted; InputError if there are none.

    A file of a folder or of a pattern that has no byte is left out.
    """
    find = _local_files if files.is_local(pattern) else _remote_files
    found = find(pattern.rstrip("/"), f"--{name}={pattern}")
    if not found:
        raise InputError(
            f"--{name}={pattern}: no such file; give a file, a folder of files, or a pattern like "
            "'data/*.parquet'"
        )
    return found


def partition_columns(path: str) -> dict[str, str | None]:
    """Return the columns that Hive folders in a path stand for, such as `dt=2026-01-31`."""
    parts = (folder.partition("=") for folder in path.split("/")[:-1])
    values = {name: unquote(value) for name, equals, value in parts if name and equals}
    return {name: None if value == _NULL_PARTITION else value for name, value in values.items()}


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_")) and "=" not in name  # `_dt=2026-01-31` is a partition


def _refuse_delta(folder: str, where: str) -> None:
    raise InputError(
        f"{where}: {folder} is a Delta table, whose files hold deleted rows too; export it to "
        "Parquet files, or read it with a query"
    )


def _local_files(pattern: str, where: str) -> list[str]:
    if os.path.isfile(pattern):
        return [pattern]
    if os.path.isdir(pattern):
        return sorted(_below(pattern, where))
    matches = (
        path for path in glob.glob(pattern, recursive=True) if not _is_matched_hidden(path, pattern)
    )
    return sorted({file for path in matches for file in _files_of(path, where)})


def _is_matched_hidden(path: str, pattern: str) -> bool:
    """Say whether a wildcard matched a name that is no data."""
    own = os.path.basename(pattern)
    return bool(_WILDCARD.match(own)) and _is_hidden(os.path.basename(path))


def _files_of(path: str, where: str) -> Iterator[str]:
    if os.path.isdir(path):
        yield from _below(path, where)
        return
    if not os.path.exists(path):
        raise InputError(f"{where}: {path} is a link to nothing; repair or remove it")
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise InputError(f"{where}: {path} is no regular file; remove it")
    if os.path.getsize(path):
        yield path


def _below(folder: str, where: str) -> Iterator[str]:
    """Yield the files below a folder, which may be linked folders too."""
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:
            raise InputError(
                f"{where}: {parent} is a link to a folder that is read already; remove it"
            )
        seen.add(real)
        if "_delta_log" in folders:
            _refuse_delta(parent, where)
        folders[:] = [name for name in folders if not _is_hidden(name)]
        for name in names:
            if not _is_hidden(name):
                yield from _files_of(os.path.join(parent, name), where)


def _remote_files(pattern: str, where: str) -> list[str]:
    if files.exists(pattern):
        return [pattern]
    stored = cloud_storage.listing(pattern)
    depth = pattern.count("/") + 1  # of path components that the flag names
    if not stored:
        prefix = _WILDCARD.split(pattern)[0]
        if prefix == pattern:
            return []
        stored = [one for one in cloud_storage.starting_with(prefix) if _matches(one.path, pattern)]
        depth -= bool(_WILDCARD.match(pattern.rsplit("/", 1)[1]))
    found = []
    for one in stored:
        below = one.path.split("/")[depth:]
        if "_delta_log" in below:
            _refuse_delta(one.path.partition("/_delta_log")[0], where)
        if one.size and not any(map(_is_hidden, below)):
            found.append(one.path)
    return sorted(found)


def _matches(path: str, pattern: str) -> bool:
    """Say whether a pattern matches a path or a folder above it."""
    wanted, given = pattern.split("/"), path.split("/")
    if len(given) < len(wanted):
        return False
    return all(fnmatch.fnmatchcase(name, one) for name, one in zip(given, wanted, strict=False))
