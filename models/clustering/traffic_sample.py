"""A sample of items in proportion to traffic, drawn batch by batch in any order.

Each item gets an exponential key whose rate is its weight, and the items with the smallest keys are
drawn: sampling by weight without replacement (Efraimidis and Spirakis, "Weighted random sampling
with a reservoir", Information Processing Letters 97, 2006). The keys come from a hash, so the
sample of a union is the sample of the samples of its parts.
"""

import numpy as np


def sample_keys(hashes: np.ndarray, traffic: np.ndarray) -> np.ndarray:
    """Return ``-log(u) / (traffic + 1)`` of each item [n] float64, with u from its uint64 hash.

    The 1 gives items without traffic a chance.

    Examples
    --------
    >>> sample_keys(np.array([2**63, 2**63], np.uint64), np.array([0.0, 9.0])).round(4)
    array([0.6931, 0.0693])
    """
    uniform = ((hashes >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
    return -np.log(uniform) / (np.asarray(traffic, np.float64) + 1)


def smallest(keys: np.ndarray, size: int) -> np.ndarray:
    """Return the positions of the size + 1 smallest keys, ascending by position.

    `times_drawn` needs the key after the last one of the sample.

    Examples
    --------
    >>> smallest(np.array([0.3, 0.1, 0.9, 0.2]), 2)
    array([0, 1, 3])
    """
    return np.sort(np.argsort(keys, kind="stable")[: size + 1])


def times_drawn(keys: np.ndarray, traffic: np.ndarray, size: int) -> np.ndarray:
    """Return how many items each one represents: 1 / probability that it is drawn, [n] float64.

    `keys` and `traffic` [n] are of the items of `smallest`. With t the key after the sample, the
    probability is ``1 - exp(-(traffic + 1) t)``. Sums over the sample times these estimate sums
    over all items without bias (Cohen and Kaplan, "Summarizing data using bottom-k sketches",
    PODC 2007). The surplus item gets 0; without one, all items get 1.
    """
    if len(keys) <= size:
        return np.ones(len(keys))
    order = np.argsort(keys, kind="stable")
    threshold = keys[order[size]]
    times = -1 / np.expm1(-(np.asarray(traffic, np.float64) + 1) * threshold)
    times[order[size:]] = 0
    return times
