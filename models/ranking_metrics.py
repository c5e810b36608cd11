"""How well held-out items are ranked among all items."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TOP = 10  # the cut of HR@10 and NDCG@10


def rank_of(
    scores: NDArray[np.float32],
    histories: Sequence[NDArray[np.int32]],
    held_out: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Rank from 0 of each held-out item among the items outside its history, ties by index."""
    rows = np.arange(len(scores))
    target = scores[rows, held_out][:, None]  # [batch, 1]
    earlier = np.arange(scores.shape[1]) < held_out[:, None]
    ahead = (scores > target) | ((scores == target) & earlier)  # [batch, items]
    for row, history in enumerate(histories):
        ahead[row, history] = False
    return np.sum(ahead, axis=1)
