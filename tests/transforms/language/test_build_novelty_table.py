"""Units and rows of the novelty table."""

import os
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

from emulators.storm import watched
from models.common.model_process import ModelProcessLost
from models.language.prompt import Prompts
from transforms.language import build_novelty_table as nt
from transforms.language.novelty_engine import NoveltyEngineSpec
from transforms.storage import files
from transforms.storage.commit_log import CommitLog


def test_row_drops_the_padding() -> None:
    row = nt.table_row(
        1,
        np.array([0, 2]),
        np.array([[2, -1], [0, 3]], np.int32),
        np.array([[1.0, 0.0], [0.75, 0.25]], np.float32),
    )
    assert row.to_pylist() == [
        {"c1": 1, "c2": 0, "novel": [2], "probability": [1.0]},
        {"c1": 1, "c2": 2, "novel": [0, 3], "probability": [0.75, 0.25]},
    ]


class StandIn:
    """Answers like an engine, at once; says which rows it was asked for."""

    asked: list[int]

    def __init__(self, spec: NoveltyEngineSpec, secret: str) -> None:
        StandIn.asked = []
        self.size = len(spec.prompts.descriptions)

    def decode(self, c1: np.ndarray, c2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        StandIn.asked.append(int(c1[0]))
        novel = np.array(
            [
                [c for c in range(self.size) if c not in (a, b)][:1]
                for a, b in zip(c1, c2, strict=True)
            ]
        )
        return novel.astype(np.int32), np.ones((len(c1), 1), np.float32)


class Poisoned(StandIn):
    """Ends with some units."""

    poison: tuple[int, ...] = (1,)

    def decode(self, c1: np.ndarray, c2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if c1[0] in self.poison:
            raise ModelProcessLost("the process 7 ended with -9; its last output: out\nof memory")
        return super().decode(c1, c2)


def committed(folder: Path | str) -> CommitLog:
    return CommitLog(files.join(str(folder), "table"), files.join(str(folder), "notes"))


def build(folder: Path | str, size: int = 3, engine: type = StandIn) -> list[nt.Unit]:
    names = tuple(f"name {number}" for number in range(size))
    spec = NoveltyEngineSpec("model", Prompts(names, names, ""), (), 1, 0, "{}", 60.0)
    found = nt.units(size)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        tallies = pipeline | nt.BuildNoveltyTable(committed(folder), spec, engine=engine)
        written = tallies | beam.Map(lambda tally: (tally.written, tally.files[0].path))
        assert_that(written, equal_to([(len(unit.c2), unit.file) for unit in found]))
    return found


def pairs(folder: Path) -> list[tuple[int, int]]:
    table = pq.read_table(folder / "table")
    return list(zip(table["c1"].to_pylist(), table["c2"].to_pylist(), strict=True))


def test_every_pair_is_written_once(tmp_path: Path) -> None:
    build(tmp_path)
    assert sorted(pairs(tmp_path)) == [(c1, c2) for c1 in range(3) for c2 in range(3)]


def test_committed_units_are_not_decoded_again(tmp_path: Path) -> None:
    found = build(tmp_path)
    files.delete_file(str(tmp_path / "table" / found[1].file))
    build(tmp_path)
    assert StandIn.asked == [1]


def test_a_unit_that_ends_the_engine_does_not_stop_the_others(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"1 of 4 units are missing, .*; part-00001-of-00004"):
        build(tmp_path, size=4, engine=Poisoned)
    assert {c1 for c1, _ in pairs(tmp_path)} == {0, 2, 3}
    build(tmp_path, size=4)
    assert StandIn.asked == [1]


def test_an_engine_that_ends_with_every_unit_is_not_asked_for_all(tmp_path: Path) -> None:
    broken = type("Broken", (Poisoned,), {"poison": tuple(range(4))})
    with pytest.raises(RuntimeError, match="the process 7 ended"):
        build(tmp_path, size=4, engine=broken)
    assert not (tmp_path / "table").exists()


def test_at_gs_nothing_is_asked_of_units_that_are_missing(storage) -> None:
    folder = f"gs://{storage.bucket}/w"
    with watched("STORAGE_EMULATOR_HOST", "/o/") as asked:
        build(folder)
    assert asked == []


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: content + b" "])
def test_a_damaged_unit_is_decoded_again(damage, tmp_path: Path) -> None:
    found = build(tmp_path)
    path = tmp_path / "table" / found[2].file
    content = path.read_bytes()
    path.write_bytes(damage(content))
    build(tmp_path)
    assert StandIn.asked == [2]
    assert path.read_bytes() == content


@given(st.integers(1, 60), st.integers(1, 70))
def test_units_cover_all_pairs_in_order(size: int, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nt, "PAIRS_PER_UNIT", most)
        found = nt.units(size)
    assert [(unit.c1, c2) for unit in found for c2 in unit.c2] == [
        (c1, c2) for c1 in range(size) for c2 in range(size)
    ]
    assert max(len(unit.c2) for unit in found) <= most
    assert sorted({unit.file for unit in found}) == [unit.file for unit in found]


def test_progress_says_what_is_left(tmp_path: Path) -> None:
    build(tmp_path, size=4)
    for number, note in enumerate(sorted((tmp_path / "notes").iterdir())):
        os.utime(note, (1000 + 2 * number, 1000 + 2 * number))
    assert nt.progress_line(committed(tmp_path), 4) == "4 of 4 units done"
    max((tmp_path / "notes").iterdir()).unlink()
    assert nt.progress_line(committed(tmp_path), 4) == ("3 of 4 units done, 2 pairs/s, 2 s left")
