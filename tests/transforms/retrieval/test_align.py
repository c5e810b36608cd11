"""The weights of the aligned score: fitted, written and read."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from models.interests.alignment import ABLATIONS, PARTS
from transforms.errors import InputError
from transforms.retrieval.align import ALIGNMENT, align, read_alignment, write_alignment
from transforms.transitions.held_out_cases import CASES

M, USERS = 4, 200


def module(informative: str) -> SimpleNamespace:
    """Stand for a model in which one part knows that user n takes up cluster n modulo 4."""

    def score_clusters(history: np.ndarray) -> dict[str, tf.Tensor]:
        parts = np.zeros([len(history), M, len(PARTS)], np.float32)
        truth = np.char.replace(history[:, 0].astype(str), "item ", "").astype(int) % M
        parts[np.arange(len(history)), truth, PARTS.index(informative)] = 2
        every = tf.ones([len(history), M], tf.bool)
        return {"parts": tf.constant(parts), "candidates": every, "recommendable": every}

    return SimpleNamespace(descriptions=tf.constant(["a"] * M), score_clusters=score_clusters)


def cases(users: int) -> pa.Table:
    number = np.arange(users)
    columns = [
        pa.array([f"user {n}" for n in number]),
        *[pa.array(np.zeros(users, np.int32))] * 2,
        pa.array(number % M),
        pa.array(number),
        pa.array([[0]] * users),
        pa.array([[0] * 8] * users),
        pa.array([[f"item {n}"] for n in number]),
    ]
    return pa.table(columns, names=CASES.names).cast(CASES)


@pytest.mark.parametrize("informative", PARTS)
def test_the_part_that_knows_weighs_most(informative: str) -> None:
    weights = align(module(informative), cases(USERS))
    assert PARTS[int(np.argmax(weights["aligned"]))] == informative
    assert weights[f"aligned_without_{informative}"][PARTS.index(informative)] == 0


def test_without_cases_there_are_weights() -> None:
    weights = align(module("table"), CASES.empty_table())
    assert weights.keys() == ABLATIONS.keys()
    assert weights["aligned"].tolist() == [0, 1, 0]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    weights = {name: np.array([0.25, 1.5, 0.0]) for name in ABLATIONS}
    record = write_alignment(str(tmp_path), weights, 7)
    assert record.path == ALIGNMENT
    for name, found in read_alignment(str(tmp_path)).items():
        assert found.tolist() == weights[name].tolist()


@pytest.mark.parametrize("content", ["", "{", "{}", '{"weights": {"aligned": {"table": "x"}}}'])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / ALIGNMENT).write_text(content)
    with pytest.raises(InputError, match=r"alignment.json is damaged .*train_retrieval` again"):
        read_alignment(str(tmp_path))
