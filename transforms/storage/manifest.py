"""The manifest of a stage: its plan, the rows that it read and wrote, and its files."""

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from transforms.storage import files
from transforms.storage.files import FileRecord
from transforms.storage.paths import inside

MANIFEST = "manifest.json"
_SHAPE = {
    **dict.fromkeys(("inputs", "flags", "rows", "dead_letter", "figures", "packages"), dict),
    "pipeline": str,
    "format": int,
    "level": int | None,
    "files": list,
    "seconds": int | float,
}
_ROWS = ("read", "used", "dead", "written")
_FILE = {"path": str, "size": int, "sha256": str, "crc32c": str}


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
    format: int  # of the files; it is raised when the code writes others for the same plan


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
    rows = {name: getattr(counts, name) for name in _ROWS}
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
    """Read the manifest of a stage; None if the stage is not complete or the file is damaged.

    Raises InputError if it lists a file that is not below the folder.
    """
    manifest = parse(files.read_if_there(files.join(folder, MANIFEST)))
    if (
        manifest is None
        or not _has_shape(manifest, _SHAPE)
        or not _has_shape(manifest["rows"], dict.fromkeys(_ROWS, int))
        or None in map(parse_record, manifest["files"])
    ):
        return None
    for file in manifest["files"]:
        inside(folder, file["path"])
    return manifest


def parse(content: bytes | None) -> dict[str, Any] | None:
    """Return the JSON object in the content of a file; None if there is none."""
    try:
        value = None if content is None else json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def parse_record(value: Any) -> FileRecord | None:
    """Return the record that a JSON value holds; None if it holds none."""
    if not isinstance(value, dict) or value.keys() != _FILE.keys() or not _has_shape(value, _FILE):
        return None
    return FileRecord(**value)


def _has_shape(value: dict[str, Any], shape: dict[str, Any]) -> bool:
    return all(isinstance(value.get(name), kind) for name, kind in shape.items())
