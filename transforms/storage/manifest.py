"""The manifest of a stage: its plan, the rows that it read and wrote, and its files."""

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from transforms.storage import files
from transforms.storage.files import FileRecord

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class RowCounts:
    """Counts of rows, and the files written; the sum over all bundles is that of the stage."""

    read: int = 0
    used: int = 0
    dead: int = 0
    written: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # dead rows by reason
    notes: Counter[str] = field(default_factory=Counter)  # what the user should know of used rows
    files: tuple[FileRecord, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)  # further facts about the output

    def __add__(self, other: "RowCounts") -> "RowCounts":
        return RowCounts(
            self.read + other.read,
            self.used + other.used,
            self.dead + other.dead,
            self.written + other.written,
            self.reasons + other.reasons,
            self.notes + other.notes,
            self.files + other.files,
            self.figures | other.figures,
        )


@dataclass(frozen=True)
class StagePlan:
    """Identifies a run of a stage: runs with equal plans write the same bytes."""

    pipeline: str
    inputs: dict[str, str]  # name -> fingerprint
    flags: dict[str, Any]
    level: int | None  # of the cluster tree; 0 is the coarsest


def write_manifest(
    folder: str, plan: StagePlan, packages: dict[str, str], started: float, counts: RowCounts
) -> None:
    """Write the manifest of a stage that began at `started`, in seconds since 1970.

    Raises ValueError if rows were lost.
    """
    if counts.read != counts.used + counts.dead:
        raise ValueError(
            f"{plan.pipeline} lost rows: it read {counts.read}, used {counts.used} and put "
            f"{counts.dead} in the dead letter; please report this"
        )
    rows = {name: getattr(counts, name) for name in ("read", "used", "dead", "written")}
    content = {
        **asdict(plan),
        "rows": rows,
        "dead_letter": dict(sorted(counts.reasons.items())),
        "notes": dict(sorted(counts.notes.items())),
        "figures": dict(sorted(counts.figures.items())),
        "files": [asdict(record) for record in sorted(counts.files)],
        "packages": packages,
        "seconds": round(time.time() - started, 1),
    }
    text = json.dumps(content, indent=1, ensure_ascii=False)
    files.write_bytes(files.join(folder, MANIFEST), text.encode())


def read_manifest(folder: str) -> dict[str, Any] | None:
    """Read the manifest of a stage; None if the stage is not complete or the file is damaged."""
    content = files.read_if_there(files.join(folder, MANIFEST))
    try:
        return None if content is None else json.loads(content)
    except ValueError:
        return None
