"""How well scores rank the cluster that a user took up next, and what they would show."""

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


def recall(rank: NDArray[np.int32], k: int) -> float:
    """Recall@k of ranks from 0, one relevant cluster each: the share of ranks below k.

    With one relevant cluster a row it is also called the hit rate.

    >>> recall(np.array([0, 2, 10, UNRANKED]), 5)
    0.5
    """
    return float(np.mean(rank < k))


def mean_reciprocal_rank(rank: NDArray[np.int32]) -> float:
    """MRR of ranks r from 0: the mean of 1 / (r + 1), 0 for UNRANKED (Voorhees, TREC-8, 1999).

    >>> mean_reciprocal_rank(np.array([0, 1, 3, UNRANKED]))
    0.4375
    """
    return float(np.mean(np.where(rank == UNRANKED, 0.0, 1 / (rank + 1.0))))


def macro_recall(rank: NDArray[np.int32], novel: NDArray[np.int32], k: int) -> float:
    """Macro recall@k: the mean over the labels that occur of the recall@k of their rows.

    Each interest counts the same, however many users take it up.

    >>> macro_recall(np.array([0, 9, 9, 9, 0]), np.array([3, 3, 3, 3, 7]), 5)
    0.625
    """
    total = np.bincount(novel)
    hits = np.bincount(novel, rank < k)
    occurs = total > 0
    return float(np.mean(hits[occurs] / total[occurs]))


def coverage(winners: NDArray[np.int32], clusters: int) -> float:
    """Return the share of the clusters that rank first for some pair.

    Also known as catalogue coverage (Ge, Delgado-Battenfeld & Jannach, RecSys 2010).

    >>> coverage(np.array([0, 2, 2, 0, -1]), 4)
    0.5
    """
    return len(np.unique(winners[winners >= 0])) / clusters


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


def novelty(shown: NDArray[np.int32], known: NDArray[np.bool_]) -> float:
    """Return the share of the clusters shown that the user had not engaged with before.

    Parameters
    ----------
    shown
        [n, k], -1 for none.
    known
        [n, M] whether the user of the row knows a cluster.

    Examples
    --------
    >>> novelty(np.array([[0, 1], [1, -1]]), np.array([[True, False], [False, False]]))
    0.6666666666666666
    """
    there = shown >= 0
    is_new = there & ~np.take_along_axis(known, np.maximum(shown, 0), axis=1)
    return float(np.sum(is_new) / np.sum(there))


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
