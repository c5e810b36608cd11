"""The novelty table, packed so that a page can carry it and a browser can read it."""

import base64
import gzip

import numpy as np

from models.interests.pairs import unpair
from transforms.evaluation.report.data import ReportData

ANSWERS = 5  # of each pair that the page shows
SCALE = 10_000  # probabilities are whole parts of it
NONE = 0xFFFF  # in the place of a cluster


def packed_table(data: ReportData) -> str:
    """Return the first answers to all pairs as base64 of gzip.

    Inside are three arrays, little-endian, each as all its low bytes, then the next higher ones
    (which compresses better): answers [ANSWERS, M * M] uint16, 65535 where there is none;
    probabilities [ANSWERS, M * M] uint16 in 1/10,000; users [M * M] uint32, 0 where there are
    fewer than `min_users`.

    Raises
    ------
    ValueError
        For more clusters than two bytes can number.
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
