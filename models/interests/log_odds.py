"""What the rows of a novelty table say of clusters, in whole numbers that add up over pairs.

The distributions that a table gives for several pairs of a user are pooled by the weighted mean of
their logarithms (a logarithmic opinion pool: Genest & Zidek, Statistical Science 1986). A row tells
the probabilities of its n best clusters only; all others share what is left. So the pooled log
probability of a cluster is, up to what all clusters have in common, the weighted mean over the
pairs that list it of its *evidence*, log p(c) - log p(one that is not listed).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Blocked = Sequence[int] | NDArray[np.integer]

# Evidence is told in whole multiples of this, so that sums do not depend on an order.
UNIT = 2.0**-16
_LEAST = np.finfo(np.float32).tiny  # log of a probability that is rounded to 0


def log_listed(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logarithm of probabilities, which may be rounded to 0."""
    return np.log(np.maximum(probability, _LEAST))


def log_unlisted(
    novel: NDArray[np.int32], probability: NDArray[np.float32], allowed: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Return the log probability of a cluster that a row does not list.

    What a row leaves belongs to the others, in equal parts, but each of them has less than the last
    one listed.

    Parameters
    ----------
    novel, probability
        [..., n] rows of a novelty table: clusters, best first, -1 pads.
    allowed
        [...] how many clusters may be an answer, listed or not.

    Returns
    -------
    [...]
    """
    listed = novel >= 0
    left = np.maximum(1 - np.sum(probability, axis=-1, where=listed), _LEAST)
    others = np.maximum(allowed - np.sum(listed, axis=-1), 1)
    least = np.min(log_listed(probability), axis=-1, where=listed, initial=0)
    return np.minimum(np.log(left / others), np.nextafter(least, np.float32(-np.inf)))


def answer_count(
    c1: NDArray[np.integer], c2: NDArray[np.integer], clusters: int, blocked: Blocked
) -> NDArray[np.integer]:
    """Return how many clusters may follow a pair: all but its own and those that are blocked.

    Parameters
    ----------
    c1, c2
        [...]
    clusters
        Their number, M.
    blocked
        Clusters that are never an answer.

    Returns
    -------
    [...]
    """
    open_ = ~np.isin(np.arange(clusters), blocked)  # [M]
    return np.sum(open_) - open_[c1] - (open_[c2] & (c1 != c2))


def evidence(
    novel: NDArray[np.int32], probability: NDArray[np.float32], blocked: Blocked
) -> NDArray[np.int32]:
    """Return log p(c) - log p(one that is not listed) of what a novelty table lists.

    Parameters
    ----------
    novel, probability
        [M, M, n] for all pairs (c1, c2).
    blocked
        Clusters that are never an answer.

    Returns
    -------
    [M, M, n] in multiples of UNIT, at least 1; 0 for pads.
    """
    size = len(novel)
    c1, c2 = np.indices((size, size))
    allowed = answer_count(c1, c2, size, blocked)
    more = log_listed(probability) - log_unlisted(novel, probability, allowed)[..., None]
    return np.where(novel < 0, 0, np.maximum(np.rint(more / UNIT), 1)).astype(np.int32)
