"""Packs the novelty table into the page."""

import base64
import gzip

import numpy as np

from models.interests.pairs import unpair
from transforms.evaluation.report.data import ReportData

ANSWERS = 5  # to each pair on the page
SCALE = 10_000  # probabilities are in 1 / SCALE
NONE = 0xFFFF  # pads the answers


def packed_table(data: ReportData) -> str:
    """Return the first answers to all pairs, as base64 of gzip.

    Inside are three little-endian arrays, each split into planes of bytes, low bytes first (which
    compresses better): answers [ANSWERS, M * M] uint16, NONE pads; probabilities [ANSWERS, M * M]
    uint16 in 1 / SCALE; users [M * M] uint32, 0 if fewer than `min_users`.

    Raises
    ------
    ValueError
        If the clusters exceed two bytes.
    """
    if data.table.size >= NONE:
        raise ValueError(f"{data.table.size:,} clusters: at most {NONE - 1:,} fit the page")
    novel, probability = first_answers(data)
    users = np.where(data.pair_users >= data.min_users, data.pair_users, 0)
    content = _planes(novel, "<u2") + _planes(probability, "<u2") + _planes(users, "<u4")
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()


def first_answers(data: ReportData) -> tuple[np.ndarray, np.ndarray]:
    """Return the first answers and their probabilities, [ANSWERS, M * M] uint16 both."""
    shape = (ANSWERS, data.table.size**2)
    novel, probability = np.full(shape, NONE, np.uint16), np.zeros(shape, np.uint16)
    shown = data.table.novel[..., :ANSWERS].reshape(shape[1], -1).T
    there = shown >= 0
    novel[: len(shown)][there] = shown[there]
    share = np.round(SCALE * data.table.probability[..., :ANSWERS].reshape(shape[1], -1).T)
    probability[: len(shown)][there] = share[there]
    return novel, probability


def first_pair(data: ReportData) -> tuple[int, int]:
    """Return the two different interests that most users come from: what is shown at first."""
    size = data.table.size
    users = data.pair_users.copy().reshape(size, size)
    np.fill_diagonal(users, -1)
    c1, c2 = unpair(int(users.argmax()), size)
    return int(c1), int(c2)


def _planes(values: np.ndarray, kind: str) -> bytes:
    """Return the lowest bytes of all values, then the next ones."""
    flat = np.ascontiguousarray(values, kind).view(np.uint8).reshape(-1, np.dtype(kind).itemsize)
    return flat.T.tobytes()
