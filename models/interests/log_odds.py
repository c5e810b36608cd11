"""Log odds of the candidates of a novelty table, as whole numbers that add up over pairs.

The distributions after several pairs of a user are pooled by the weighted mean of their logarithms
(a logarithmic opinion pool: Genest & Zidek, Statistical Science 1986). A pair lists the
probabilities of its n best clusters only; the other clusters share the rest equally. So the pooled
log probability of a cluster is, up to a constant, the weighted mean of its log odds over the pairs
that list it: log p(cluster) - log p(an unlisted cluster).
"""

import numpy as np
from numpy.typing import NDArray

from models.interests.novelty_table import NoveltyTable

# Log odds are whole multiples of this number, so that sums do not depend on their order.
UNIT = 2.0**-16
_LEAST = np.finfo(np.float32).tiny  # log of a probability that is rounded to 0


def log_listed(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logarithm of probabilities, which may be rounded to 0."""
    return np.log(np.maximum(probability, _LEAST))


def log_unlisted(
    novel: NDArray[np.int32], probability: NDArray[np.float32], allowed: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Return the log probability of each cluster that a pair does not list, [...].

    The unlisted clusters share the rest to 1 equally, but each has less than the last candidate.
    `novel` and `probability` are the candidates of pairs, [..., n]; `allowed` [...] is the number
    of clusters that may follow each pair, listed or not.
    """
    listed = novel >= 0
    left = np.maximum(1 - np.sum(probability, axis=-1, where=listed), _LEAST)
    others = np.maximum(allowed - np.sum(listed, axis=-1), 1)
    least = np.min(log_listed(probability), axis=-1, where=listed, initial=0)
    return np.minimum(np.log(left / others), np.nextafter(least, np.float32(-np.inf)))


def log_odds(table: NoveltyTable) -> NDArray[np.int32]:
    """Return the log odds of all candidates, [M, M, n]: multiples of UNIT, at least 1; 0 for pads.

    They are log p(candidate) - log p(an unlisted cluster).
    """
    c1, c2 = np.indices((table.size, table.size))
    allowed = table.candidate_count(c1, c2)
    unlisted = log_unlisted(table.novel, table.probability, allowed)
    odds = log_listed(table.probability) - unlisted[..., None]
    return np.where(table.novel < 0, 0, np.maximum(np.rint(odds / UNIT), 1)).astype(np.int32)
