"""A user's recent clusters, the pairs that they form, and the weight of each pair.

A user's interests are ranked by their latest engagement: rank 0 is the newest.
`models.retrieval.serving.pair_choice` does the same with tensors.
"""

import numpy as np
from numpy.typing import NDArray

RECENT = 8  # newest interests that form pairs
_HALF_LIFE = 2.0  # in ranks: an interest is drawn half as often as one with a rank lower by this
# Weights are integers: their sums are exact, in any order.
_WEIGHT_OF_ALL = 1 << 30


def run_starts(user: NDArray[np.integer], cluster: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Say which engagements [n], by user and time, begin a run of a user in one cluster."""
    starts = np.ones(len(user), bool)
    starts[1:] = (user[1:] != user[:-1]) | (cluster[1:] != cluster[:-1])
    return starts


def recent_clusters(
    user: NDArray[np.integer], cluster: NDArray[np.integer], at: NDArray[np.integer], count: int
) -> NDArray[np.integer]:
    """Return the `count` clusters of the latest engagements up to some runs, [n, count].

    `user` and `cluster` [runs] are runs (see `run_starts`), `at` [n] are positions in them. The
    newest cluster is first; the oldest one is repeated where the user has fewer.
    """
    found = [cluster[at]]
    back = at  # how far the search has come
    for _ in range(1, count):
        back = np.maximum(back - 1, -1)
        while True:
            there = (back >= 0) & (user[back] == user[at])
            known = there & np.any([cluster[back] == one for one in found], axis=0)
            if not known.any():  # the first two need no search: runs in a row have two clusters
                break
            back = back - known
        found.append(np.where(there, cluster[back], found[-1]))
    return np.stack(found, axis=1)


def pair_ranks(recent: int) -> NDArray[np.int32]:
    """Return the ranks (older, newer) of all pairs, the most recent pair first: [pairs, 2].

    >>> pair_ranks(3).tolist()  # (0, 0) is for users with one interest
    [[0, 0], [1, 0], [2, 0], [2, 1]]
    """
    two = [(older, newer) for older in range(recent) for newer in range(older)]
    return np.array([(0, 0), *two], np.int32)


def pair_weights(recent: int) -> NDArray[np.int64]:
    """Return how often each pair is drawn: two interests in turn, without replacement.

    With p the shares of the interests, which halve every `_HALF_LIFE` ranks, the probability of
    {i, j} is p_i p_j / (1 - p_i) + p_j p_i / (1 - p_j). The weights are whole numbers in proportion
    to it, [recent + 1, pairs], by the number of a user's interests and in the order of
    `pair_ranks`; 0 for a pair that the user does not have.
    """
    older, newer = pair_ranks(recent).T
    weights = np.zeros([recent + 1, len(older)], np.int64)
    weights[1, 0] = _WEIGHT_OF_ALL
    for known in range(2, recent + 1):
        p = 2.0 ** -(np.arange(recent) / _HALF_LIFE)
        p /= np.sum(p[:known])
        both = p[older] * p[newer] * (1 / (1 - p[older]) + 1 / (1 - p[newer]))
        has = (older < known) & (older != newer)
        weights[known, has] = np.round(_WEIGHT_OF_ALL * both[has])
    return weights
