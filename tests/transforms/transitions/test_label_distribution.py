"""The distribution of labels: its numbers, and a picture that is always the same."""

import math
from pathlib import Path
from xml.etree import ElementTree

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.eager import run
from transforms import schemas as col
from transforms.storage import files
from transforms.storage.manifest import RowCounts
from transforms.transitions.label_distribution import (
    PICTURE,
    WriteLabelDistribution,
    draw,
    measure,
    rows_per_label,
    users_per_label,
)

counts = st.lists(st.integers(0, 1000), min_size=2, max_size=300).map(np.array)
COUNTS = pa.table(
    [pa.array([0, 1, 2, 3], pa.int32())] * 2
    + [pa.array([2, 2, 0, 4], pa.int32()), pa.array([5, 1, 1, 1], pa.int64())],
    schema=col.TRANSITION_COUNTS,
)


@given(counts)
def test_the_figures_are_those_of_their_definitions(counts: np.ndarray) -> None:
    found, each = measure(counts), counts.tolist()
    total = sum(each)
    bits = sum(count / total * math.log2(total / count) for count in each if count)
    top = sum(sorted(each, reverse=True)[: -(-len(each) // 100)]) / max(1, total)
    labels = sum(count > 0 for count in each)
    assert (found["total"], found["labels"]) == (total, labels)
    assert found["entropy"] == pytest.approx(bits, abs=1e-6)
    assert found["coverage"] == pytest.approx(labels / len(each), abs=1e-6)
    assert found["top_1_percent_share"] == pytest.approx(top, abs=1e-6)


@given(st.integers(2, 300), st.integers(1, 50))
def test_equally_frequent_labels_are_as_even_as_can_be(labels: int, each: int) -> None:
    assert measure(np.full(labels, each))["evenness"] == 1


def test_nothing_has_numbers_too() -> None:
    nothing = measure(np.zeros(3, np.int64))
    assert [nothing[name] for name in ("entropy", "coverage", "top_1_percent_share")] == [0, 0, 0]


def test_labels_are_counted_by_users_before_and_by_rows_after() -> None:
    assert users_per_label(COUNTS, 6).tolist() == [1, 0, 6, 0, 1, 0]
    assert rows_per_label(COUNTS, 6).tolist() == [1, 0, 2, 0, 1, 0]


def test_the_picture_names_both_lines_and_tells_them_apart_by_more_than_colour() -> None:
    svg = draw(np.array([900, 90, 10, 0]), np.array([3, 3, 2, 0])).decode()
    ElementTree.fromstring(svg)
    for text in ("before:", "1,000 transitions", "after:", "8 examples", "90.0%", "37.5%"):
        assert text in svg
    assert svg.count("stroke-dasharray") == 1


@pytest.mark.parametrize("counts", [[0, 0, 0], [0, 7, 0], [1, 1, 1]])
def test_any_distribution_can_be_drawn(counts: list[int]) -> None:
    ElementTree.fromstring(draw(np.array(counts), np.array(counts)))


def test_numbers_and_picture_are_in_the_tally(tmp_path: Path) -> None:
    [tally] = run(
        lambda pipeline: {
            "tally": {
                "counts": pipeline
                | "Counts" >> beam.Create([COUNTS.slice(0, 3), COUNTS.slice(3)], reshuffle=False),
                "drawn": pipeline | "Drawn" >> beam.Create([COUNTS.slice(1)], reshuffle=False),
            }
            | WriteLabelDistribution(str(tmp_path), 6)
        }
    )["tally"]
    content = (tmp_path / PICTURE).read_bytes()
    assert content == draw(users_per_label(COUNTS, 6), rows_per_label(COUNTS.slice(1), 6))
    assert tally == RowCounts(
        files=(files.record(PICTURE, content),),
        figures={
            "label_distribution": {
                "clusters": 6,
                "before": {
                    "total": 8,
                    "labels": 3,
                    "entropy": 1.061278,
                    "evenness": 0.410558,
                    "coverage": 0.5,
                    "top_1_percent_share": 0.75,
                },
                "after": {
                    "total": 3,
                    "labels": 3,
                    "entropy": 1.584963,
                    "evenness": 0.613147,
                    "coverage": 0.5,
                    "top_1_percent_share": 0.333333,
                },
            }
        },
    )
