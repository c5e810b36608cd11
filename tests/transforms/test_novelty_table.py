"""Rows of the novelty table, and the blocklist."""

from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from transforms import files
from transforms import novelty_table as nt
from transforms.errors import InputError

NAMES = ["tea, green", "salt", "bread, rye"]


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


def test_clusters_are_blocked_by_id_and_by_description() -> None:
    assert nt.resolve_blocked(["Bread, Rye", "0"], NAMES) == [0, 2]


@pytest.mark.parametrize("name", ["3", "-1", "bread"])
def test_unknown_blocked_cluster_is_named(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' is neither"):
        nt.resolve_blocked([name], NAMES)


def test_not_everything_may_be_blocked() -> None:
    with pytest.raises(InputError, match="blocks every cluster"):
        nt.resolve_blocked(["0", "1", "2"], NAMES)


class StandIn:
    """Answers like a decoder, at once; says which rows it was asked for."""

    asked: list[int]

    def __init__(self, policy: nt.Policy) -> None:
        StandIn.asked = []
        self.size = len(policy.descriptions)

    def row(self, c1: int) -> object:
        StandIn.asked.append(c1)
        c2 = np.arange(self.size)
        novel = np.array([[c for c in range(self.size) if c not in (c1, k)][:1] for k in c2])
        return nt.table_row(c1, c2, novel.astype(np.int32), np.ones((self.size, 1), np.float32))


def build(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nt, "_Decoder", StandIn)
    policy = nt.Policy("model", tuple(NAMES), "{c1}{c2}", (), 1, 0, "{}")
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        tallies = pipeline | nt.BuildNoveltyTable(str(folder), policy)
        written = tallies | beam.Map(lambda tally: (tally.written, tally.files[0].path))
        assert_that(written, equal_to([(3, nt.row_file(c1, 3)) for c1 in range(3)]))


def test_every_pair_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, monkeypatch)
    rows = pq.read_table(tmp_path).to_pylist()
    assert sorted((row["c1"], row["c2"]) for row in rows) == [
        (c1, c2) for c1 in range(3) for c2 in range(3)
    ]


def test_committed_rows_are_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path, monkeypatch)
    files.delete_file(str(tmp_path / nt.row_file(1, 3)))
    build(tmp_path, monkeypatch)
    assert StandIn.asked == [1]
