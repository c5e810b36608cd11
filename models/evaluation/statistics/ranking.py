"""The ranks and the first clusters of scores, and what describes many of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

UNRANKED = np.iinfo(np.int32).max  # rank of what may not be an answer


def ranks(scores: NDArray[np.float32], novel: NDArray[np.int32]) -> NDArray[np.int32]:
    """Rank from 0 of each cluster among all of its row, equal scores by id.

    Parameters
    ----------
    scores
        [n, M], -inf for what may not be an answer.
    novel
        [n] clusters.

    Returns
    -------
    [n]; UNRANKED where the score is -inf.
    """
    score = scores[np.arange(len(scores)), novel][:, None]  # [n, 1]
    earlier = np.arange(scores.shape[1]) < novel[:, None]
    rank = np.sum((scores > score) | ((scores == score) & earlier), axis=1, dtype=np.int32)
    return np.where(np.isneginf(score[:, 0]), UNRANKED, rank)


def best(scores: NDArray[np.float32], count: int) -> NDArray[np.int32]:
    """Return the first clusters of each row, equal scores by id.

    Parameters
    ----------
    scores
        [n, M], -inf for what may not be an answer.
    count
        At most M.

    Returns
    -------
    [n, count], -1 where fewer may be an answer.
    """
    left, rows = scores.copy(), np.arange(len(scores))
    found = np.empty((len(scores), count), np.int32)
    for place in range(count):
        first = np.argmax(left, axis=1)
        found[:, place] = np.where(np.isneginf(left[rows, first]), -1, first)
        left[rows, first] = -np.inf
    return found


def entropy(counts: NDArray[np.integer]) -> Any:
    """Return the entropy in bits, -sum p log2 p over p = counts / sum(counts), 0 where none is.

    0 if always the same is shown, log2(M) if each cluster is shown as often.

    Parameters
    ----------
    counts
        [M, ...] how often each cluster is shown.

    Returns
    -------
    [...]

    Examples
    --------
    >>> float(entropy(np.array([2, 1, 1, 0])))
    1.5
    """
    p = counts / np.maximum(np.sum(counts, axis=0), 1)
    return np.sum(p * -np.log2(np.where(p > 0, p, 1)), axis=0)


def head(train: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which labels are head: the most frequent ones that together have half of the training.

    The fewest labels, the most frequent first (ties by id), with at least half of all training
    transitions; the others are tail.

    Parameters
    ----------
    train
        [M] transitions of each label.

    Examples
    --------
    >>> head(np.array([1, 5, 2, 2]))
    array([False,  True, False, False])
    """
    order = np.argsort(-train, kind="stable")
    before = np.cumsum(train[order]) - train[order]
    is_head = np.zeros(len(train), bool)
    is_head[order] = (2 * before < train.sum()) & (train[order] > 0)
    return is_head
