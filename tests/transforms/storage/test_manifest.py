"""The manifest is written only if no row is lost."""

from collections import Counter
from pathlib import Path

import pytest

from transforms.storage.files import FileRecord
from transforms.storage.manifest import (
    MANIFEST,
    RowCounts,
    StagePlan,
    read_manifest,
    write_manifest,
)

PLAN = StagePlan("make_tea", {"leaves": "f00"}, {"sugar": 2, "note": "heiß"}, 1, 2)
COUNTS = [
    RowCounts(read=5, used=3),
    RowCounts(dead=2, reasons=Counter({"cold": 1, "bitter": 1})),
    RowCounts(written=3, files=(FileRecord("b", 2, "22", "2="),)),
    RowCounts(
        written=1, files=(FileRecord("a", 1, "11", "1="),), figures={"warmth": {"mean": 0.5}}
    ),
    RowCounts(figures={"taste": 3}, notes=Counter({"odd": 3})),
]


def write(folder: Path, parts: list[RowCounts]) -> None:
    write_manifest(str(folder), PLAN, {"tea": "1.0"}, 0.0, sum(parts, RowCounts()))


def test_the_manifest_says_what_was_planned_and_done(tmp_path: Path) -> None:
    write(tmp_path, COUNTS)
    manifest = read_manifest(str(tmp_path))
    assert manifest is not None
    assert manifest.pop("seconds") > 0
    assert manifest == {
        "pipeline": "make_tea",
        "inputs": {"leaves": "f00"},
        "flags": {"sugar": 2, "note": "heiß"},
        "level": 1,
        "format": 2,
        "rows": {"read": 5, "used": 3, "dead": 2, "written": 4},
        "dead_letter": {"bitter": 1, "cold": 1},
        "notes": {"odd": 3},
        "figures": {"taste": 3, "warmth": {"mean": 0.5}},
        "files": [
            {"path": "a", "size": 1, "sha256": "11", "crc32c": "1="},
            {"path": "b", "size": 2, "sha256": "22", "crc32c": "2="},
        ],
        "packages": {"tea": "1.0"},
    }


def test_lost_rows_leave_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="make_tea lost rows: it read 5, used 3 and put 0"):
        write(tmp_path, COUNTS[:1])
    assert read_manifest(str(tmp_path)) is None


@pytest.mark.parametrize("content", [b"", b'{"rows": {', b"\xff"])
def test_a_damaged_manifest_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    assert read_manifest(str(tmp_path)) is None
