"""Commits the files of an unfinished stage one by one, and tells its progress."""

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from transforms.storage import files
from transforms.storage.files import FileRecord
from transforms.storage.manifest import parse, parse_record
from transforms.storage.paths import inside

log = logging.getLogger("interest-explorer")

_PAUSE = 10.0  # times the median time between two files: the job was not running then


@dataclass(frozen=True)
class Progress:
    """The progress of a stage."""

    done: int  # files
    total: int  # files
    seconds_left: float | None  # None: fewer than two files, so no speed


@dataclass(frozen=True)
class CommitLog:
    """The files of a stage that were written whole, each with a note of its checksum."""

    folder: str  # of the stage
    notes: str  # folder of the notes

    def write(self, name: str, table: pa.Table) -> FileRecord:
        """Write a table as `name`, and then its note."""
        record = files.write_parquet(self.folder, name, table)
        self.adopt([record])
        return record

    def adopt(self, records: Iterable[FileRecord]) -> None:
        """Write the notes of existing files."""
        for record in records:
            content = json.dumps(asdict(record)).encode()
            files.write_bytes(inside(self.notes, f"{record.path}.json"), content)

    def finder(self) -> Callable[[str], FileRecord | None]:
        """Return a function from the name of a file to its record, or None if it is not committed.

        A missing or changed file, or one with a damaged note, is no longer committed: its note is
        deleted. Notes are listed once, now, so that a file without a note costs no request.
        """
        notes = set(files.list_folder(self.notes))
        is_unchanged = files.checker(self.folder)

        def find(name: str) -> FileRecord | None:
            note = files.join(self.notes, f"{name}.json")
            content = files.read_if_there(note) if note in notes else None
            if content is None:
                return None
            record = parse_record(parse(content))
            if record is None or record.path != name:
                log.warning("%s is damaged: its file is written again", note)
            elif is_unchanged(record):
                return record
            files.delete_file(note)
            return None

        return find

    def count(self) -> int:
        """Count the committed files."""
        return len(files.list_folder(self.notes))

    def progress(self, total: int) -> Progress:
        """Return the progress of a stage of `total` files, by the times of the notes."""
        times = np.sort(files.times(self.notes))
        gaps = np.diff(times)
        left = None
        if len(gaps):
            working = gaps[gaps <= max(_PAUSE * np.median(gaps), 1.0)]
            left = float(working.mean()) * (total - len(times))
        return Progress(len(times), total, left)
