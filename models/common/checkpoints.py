"""Checkpoints that are used only if they are whole.

Each is a folder `checkpoint-<number>` with the SHA-256 of its files in a last file. Without it, a
flipped bit or a missing optimizer ends in other weights, or in the same error at each restart.
"""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger("interest-explorer")

_SUMS = "checksums.json"
_NAME = re.compile(r"checkpoint-(\d{1,18})")


def write_checkpoint(folder: Path, save: Callable[[Path], object], keep: int = 2) -> None:
    """Let `save` write files into the next checkpoint of a folder; delete all but the last ones."""
    number = max(numbered(folder), default=0) + 1
    path = folder / f"checkpoint-{number}"
    path.mkdir(parents=True)
    save(path)
    seal(path)
    for old in sorted(numbered(folder))[:-keep]:
        shutil.rmtree(folder / f"checkpoint-{old}")


def seal(checkpoint: Path) -> None:
    """Write the checksums of the files of a checkpoint, after all of them."""
    (checkpoint / _SUMS).write_text(json.dumps(_checksums(checkpoint), sort_keys=True))


def whole_checkpoints(folder: Path) -> dict[int, Path]:
    """Return the whole checkpoints of a folder by number; delete the others, with a warning."""
    found = numbered(folder)
    for number in [number for number, path in found.items() if not _is_whole(path)]:
        drop(found.pop(number))
    return found


def drop(checkpoint: Path) -> None:
    """Delete a checkpoint that cannot be used, with a warning."""
    log.warning("%s is unfinished or damaged, and is not used", checkpoint)
    if checkpoint.is_dir() and not checkpoint.is_symlink():
        shutil.rmtree(checkpoint)
    else:
        checkpoint.unlink()


def numbered(folder: Path) -> dict[int, Path]:
    """Return the checkpoints of a folder by number, whole or not."""
    named = ((_NAME.fullmatch(path.name), path) for path in folder.glob("checkpoint-*"))
    return {int(match[1]): path for match, path in named if match}


def _is_whole(checkpoint: Path) -> bool:
    try:
        noted = json.loads((checkpoint / _SUMS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return noted == _checksums(checkpoint)


def _checksums(checkpoint: Path) -> dict[str, str]:
    sums = {}
    for path in checkpoint.rglob("*"):
        if path.is_file() and path.name != _SUMS:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            sums[str(path.relative_to(checkpoint))] = digest
    return sums
