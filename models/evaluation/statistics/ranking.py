"""Ranks and first clusters of scores, and statistics of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

UNRANKED = np.iinfo(np.int32).max  # rank of a cluster that is no answer


def ranks(scores: NDArray[np.float32], novel: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the rank from 0 of each row's novel cluster [n] among scores [n, M].

    Equal scores rank by id. The rank is UNRANKED where the score is -inf.
    """
    score = scores[np.arange(len(scores)), novel][:, None]  # [n, 1]
    earlier = np.arange(scores.shape[1]) < novel[:, None]
    rank = np.sum((scores > score) | ((scores == score) & earlier), axis=1, dtype=np.int32)
    return np.where(np.isneginf(score[:, 0]), UNRANKED, rank)


def best(scores: NDArray[np.float32], count: int) -> NDArray[np.int32]:
    """Return the `count` first clusters of each row of scores [n, M], [n, count].

    Equal scores rank by id; -inf is no answer; -1 pads.
    """
    left, rows = scores.copy(), np.arange(len(scores))
    found = np.empty((len(scores), count), np.int32)
    for place in range(count):
        first = np.argmax(left, axis=1)
        found[:, place] = np.where(np.isneginf(left[rows, first]), -1, first)
        left[rows, first] = -np.inf
    return found


def entropy(counts: NDArray[np.integer]) -> Any:
    """Return -sum p log2 p [...] in bits, with p = counts / sum(counts) over the first axis.

    0 if one cluster is always shown, log2(M) if each of the M is shown equally often.

    >>> float(entropy(np.array([2, 1, 1, 0])))
    1.5
    """
    p = counts / np.maximum(np.sum(counts, axis=0), 1)
    return np.sum(p * -np.log2(np.where(p > 0, p, 1)), axis=0)


def head(train: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which labels are head [M], given the training transitions of each [M].

    Head are the fewest labels, most frequent first (ties by id), with at least half of all
    training transitions; the others are tail.

    >>> head(np.array([1, 5, 2, 2]))
    array([False,  True, False, False])
    """
    order = np.argsort(-train, kind="stable")
    before = np.cumsum(train[order]) - train[order]
    is_head = np.zeros(len(train), bool)
    is_head[order] = (2 * before < train.sum()) & (train[order] > 0)
    return is_head
