"""The manifest: written last, and only if no row is lost."""

import json
from collections import Counter
from pathlib import Path

import apache_beam as beam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.eager import run
from transforms.storage.files import FileRecord
from transforms.storage.manifest import (
    MANIFEST,
    RowCounts,
    StagePlan,
    SumRowCounts,
    WriteManifest,
    read_manifest,
)

PLAN = StagePlan("make_tea", {"leaves": "f00"}, {"sugar": 2, "note": "heiß"}, 1)
TALLIES = [
    RowCounts(read=5, used=3),
    RowCounts(dead=2, reasons=Counter({"cold": 1, "bitter": 1})),
    RowCounts(written=3, files=(FileRecord("b", 2, "22", "2="),)),
    RowCounts(
        written=1, files=(FileRecord("a", 1, "11", "1="),), figures={"warmth": {"mean": 0.5}}
    ),
    RowCounts(figures={"taste": 3}),
]

tallies = st.lists(
    st.builds(
        RowCounts,
        read=st.integers(0, 9),
        used=st.integers(-9, 9),
        dead=st.integers(0, 9),
        written=st.integers(0, 9),
        reasons=st.dictionaries(st.sampled_from("ab"), st.integers(1, 9)).map(Counter),
    ),
    max_size=8,
)


@given(tallies, st.integers(0, 8))
def test_tallies_add_up_in_any_grouping(parts: list[RowCounts], cut: int) -> None:
    combine = SumRowCounts()
    halves = []
    for half in (parts[:cut], parts[cut:]):
        accumulator = combine.create_accumulator()
        for tally in half:
            accumulator = combine.add_input(accumulator, tally)
        halves.append(accumulator)
    total = combine.extract_output(combine.merge_accumulators(halves))
    for name in ("read", "used", "dead", "written"):
        assert getattr(total, name) == sum(getattr(tally, name) for tally in parts)
    assert total.reasons == sum((tally.reasons for tally in parts), Counter())


def write(folder: Path, parts: list[RowCounts]) -> None:
    run(
        lambda pipeline: {
            "total": pipeline
            | beam.Create(parts)
            | WriteManifest(str(folder), PLAN, {"tea": "1.0"}, started=0.0)
        }
    )


def test_the_manifest_says_what_was_planned_and_done(tmp_path: Path) -> None:
    write(tmp_path, TALLIES)
    manifest = read_manifest(str(tmp_path))
    assert manifest is not None
    assert manifest.pop("seconds") > 0
    assert manifest == {
        "pipeline": "make_tea",
        "inputs": {"leaves": "f00"},
        "flags": {"sugar": 2, "note": "heiß"},
        "level": 1,
        "rows": {"read": 5, "used": 3, "dead": 2, "written": 4},
        "dead_letter": {"bitter": 1, "cold": 1},
        "figures": {"taste": 3, "warmth": {"mean": 0.5}},
        "files": [
            {"path": "a", "size": 1, "sha256": "11", "crc32c": "1="},
            {"path": "b", "size": 2, "sha256": "22", "crc32c": "2="},
        ],
        "packages": {"tea": "1.0"},
    }


def test_a_stage_that_read_nothing_has_a_manifest(tmp_path: Path) -> None:
    write(tmp_path, [])
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    assert manifest["rows"] == {"read": 0, "used": 0, "dead": 0, "written": 0}


def test_lost_rows_leave_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="make_tea lost rows: it read 5, used 3 and put 0"):
        write(tmp_path, TALLIES[:1])
    assert read_manifest(str(tmp_path)) is None


@pytest.mark.parametrize("content", [b"", b'{"rows": {', b"\xff"])
def test_a_damaged_manifest_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    assert read_manifest(str(tmp_path)) is None
