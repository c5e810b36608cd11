"""What a stage read, used, dropped and wrote, and the manifest that says so once it is complete."""

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import apache_beam as beam

from transforms.storage import files
from transforms.storage.files import FileRecord

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class RowCounts:
    """Counts of rows and the files written; tallies of bundles add up to the tally of a stage."""

    read: int = 0
    used: int = 0
    dead: int = 0
    written: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # dead rows by reason
    files: tuple[FileRecord, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)  # what the manifest says of the output

    def __add__(self, other: "RowCounts") -> "RowCounts":
        return RowCounts(
            self.read + other.read,
            self.used + other.used,
            self.dead + other.dead,
            self.written + other.written,
            self.reasons + other.reasons,
            self.files + other.files,
            self.figures | other.figures,
        )


class SumRowCounts(beam.CombineFn):
    """Adds tallies up."""

    def create_accumulator(self) -> RowCounts:
        return RowCounts()

    def add_input(self, accumulator: RowCounts, element: RowCounts) -> RowCounts:
        return accumulator + element

    def merge_accumulators(self, accumulators: Iterable[RowCounts]) -> RowCounts:
        return sum(accumulators, RowCounts())

    def extract_output(self, accumulator: RowCounts) -> RowCounts:
        return accumulator


@dataclass(frozen=True)
class StagePlan:
    """What identifies a run of a stage: the same plan gives the same bytes."""

    pipeline: str
    inputs: dict[str, str]  # name -> fingerprint
    flags: dict[str, Any]
    level: int | None  # of the tree of clusters, counted from the coarsest


@dataclass(eq=False)
class WriteManifest(beam.PTransform):
    """Writes `<folder>/manifest.json` after everything whose tally it takes has been written.

    Takes a PCollection of all tallies of the stage. Raises ValueError if rows were lost.
    """

    folder: str
    plan: StagePlan
    packages: dict[str, str]
    started: float  # seconds since the epoch

    def expand(self, tallies: beam.PCollection[RowCounts]) -> beam.PCollection[RowCounts]:
        return tallies | beam.CombineGlobally(SumRowCounts()) | "Write" >> beam.Map(self._write)

    def _write(self, tally: RowCounts) -> RowCounts:
        if tally.read != tally.used + tally.dead:
            raise ValueError(
                f"{self.plan.pipeline} lost rows: it read {tally.read}, used {tally.used} and put "
                f"{tally.dead} in the dead letter; please report this"
            )
        content = {
            **asdict(self.plan),
            "rows": {
                "read": tally.read,
                "used": tally.used,
                "dead": tally.dead,
                "written": tally.written,
            },
            "dead_letter": dict(sorted(tally.reasons.items())),
            "figures": dict(sorted(tally.figures.items())),
            "files": [asdict(record) for record in sorted(tally.files)],
            "packages": self.packages,
            "seconds": round(time.time() - self.started, 1),
        }
        files.write_record(
            self.folder, MANIFEST, json.dumps(content, indent=1, ensure_ascii=False).encode()
        )
        return tally


def read_manifest(folder: str) -> dict[str, Any] | None:
    """Read the manifest of a stage; None where it is missing or damaged: not complete."""
    content = files.read_if_there(files.join(folder, MANIFEST))
    try:
        return None if content is None else json.loads(content)
    except ValueError:
        return None
