"""Files of a stage that are known to be whole while it is not complete, and how fast they come."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from transforms.storage import files
from transforms.storage.files import FileRecord

_PAUSE = 10.0  # times the usual time between two files: the job did not run then


@dataclass(frozen=True)
class Progress:
    """How far a stage has come.

    Attributes
    ----------
    done, total
        Files.
    seconds_left
        None where fewer than two files tell no speed.
    """

    done: int
    total: int
    seconds_left: float | None


@dataclass(frozen=True)
class CommitLog:
    """The files of a folder that were written whole, each with a note of its checksum.

    Attributes
    ----------
    folder
        Of the stage.
    notes
        Where the notes are kept.
    """

    folder: str
    notes: str

    def write(self, name: str, table: pa.Table) -> FileRecord:
        """Write a table as `name`, and then its note."""
        record = files.write_parquet(self.folder, name, table)
        self.adopt([record])
        return record

    def adopt(self, records: Iterable[FileRecord]) -> None:
        """Write the notes of files that are there."""
        for record in records:
            content = json.dumps(asdict(record)).encode()
            files.write_bytes(files.join(self.notes, f"{record.path}.json"), content)

    def finder(self) -> Callable[[str], FileRecord | None]:
        """Return what gives the record of a file that is as it was written, by its name.

        It gives None for any other, which does not count as committed any more. What is there is
        listed once, now: of a file without a note nothing is asked.
        """
        notes = set(files.list_folder(self.notes))
        is_unchanged = files.checker(self.folder)

        def find(name: str) -> FileRecord | None:
            note = files.join(self.notes, f"{name}.json")
            content = files.read_if_there(note) if note in notes else None
            if content is None:
                return None
            record = FileRecord(**json.loads(content))
            if is_unchanged(record):
                return record
            files.delete_file(note)
            return None

        return find

    def count(self) -> int:
        """Count the files."""
        return len(files.list_folder(self.notes))

    def progress(self, total: int) -> Progress:
        """Tell from the times of the notes how far a stage of `total` files has come."""
        times = np.sort(files.times(self.notes))
        gaps = np.diff(times)
        left = None
        if len(gaps):
            working = gaps[gaps <= max(_PAUSE * np.median(gaps), 1.0)]
            left = float(working.mean()) * (total - len(times))
        return Progress(len(times), total, left)
