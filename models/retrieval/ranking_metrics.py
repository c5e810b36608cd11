"""Ranks of held-out items among all items, and the metrics of the ranks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TOP = 10  # the cut of HR@10 and NDCG@10


def rank_of(
    scores: NDArray[np.float32],
    histories: Sequence[NDArray[np.int32]],
    held_out: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Return the rank from 0 of each held-out item among the items outside its history.

    `scores` are [users, items]; equal scores rank by index. Items with a NaN score are ahead: a
    broken model finds nothing.
    """
    rows = np.arange(len(scores))
    target = scores[rows, held_out][:, None]  # [batch, 1]
    not_before = np.arange(scores.shape[1]) >= held_out[:, None]
    ahead = ~((scores < target) | ((scores == target) & not_before))  # [batch, items]
    for row, history in enumerate(histories):
        ahead[row, history] = False
    return np.sum(ahead, axis=1)


def hit_rate(rank: NDArray[np.int64]) -> float:
    """HR@10 of ranks from 0, one relevant item each: the share of ranks below 10.

    >>> hit_rate(np.array([0, 2, 10]))
    0.6666666666666666
    """
    return float(np.mean(rank < TOP))


def ndcg(rank: NDArray[np.int64]) -> float:
    """NDCG@10 of ranks r from 0, one relevant item each: the mean of [r < 10] / log2(r + 2).

    >>> ndcg(np.array([0, 2, 10]))
    0.5
    """
    return float(np.mean(np.where(rank < TOP, 1 / np.log2(rank + 2), 0)))
