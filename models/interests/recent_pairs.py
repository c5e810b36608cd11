"""The pairs that a user's most recent interests make, and how much each of them counts.

Interests have ranks, 0 being the one with the latest engagement.
"""

import numpy as np
from numpy.typing import NDArray

RECENT = 8  # newest interests that pairs are made of
_HALF_LIFE = 2.0  # in ranks: an interest is drawn half as often as the one this much newer
# Weights are integers: their sums are exact, in any order.
_WEIGHT_OF_ALL = 1 << 30


def pair_ranks(recent: int) -> NDArray[np.int32]:
    """Return the ranks (older, newer) of all pairs, the most recent pair first.

    Returns
    -------
    [pairs, 2]: (0, 0) for users with one interest, (1, 0), (2, 0), (2, 1), (3, 0), ...
    """
    two = [(older, newer) for older in range(recent) for newer in range(older)]
    return np.array([(0, 0), *two], np.int32)


def pair_weights(recent: int) -> NDArray[np.int64]:
    """Return how often pairs are drawn: two interests one after the other, without replacement.

    With p the shares of the interests, which halve every `_HALF_LIFE` ranks, the probability of
    {i, j} is p_i p_j / (1 - p_i) + p_j p_i / (1 - p_j).

    Returns
    -------
    [recent + 1, pairs], by how many interests a user has, pairs as `pair_ranks` has them: whole
    numbers in proportion to the probabilities, 0 for pairs that the user does not have.
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
