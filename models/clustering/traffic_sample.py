"""A sample of items in proportion to traffic that can be drawn batch by batch, in any order.

Each item gets an exponential key whose rate is its weight, and the smallest keys are kept: sampling
without replacement in which the next item is drawn by weight (Efraimidis and Spirakis, "Weighted
random sampling with a reservoir", Information Processing Letters 97, 2006). The keys come from a
hash, so the sample of a union is the sample of the samples of its parts.
"""

import numpy as np


def sample_keys(hashes: np.ndarray, traffic: np.ndarray) -> np.ndarray:
    """Return the key of each item: ``-log(u) / (traffic + 1)``, u from its hash.

    The one gives items without traffic a chance.

    Parameters
    ----------
    hashes
        [n] uint64, as good as random.
    traffic
        [n] interactions, >= 0.

    Returns
    -------
    np.ndarray
        [n] float64, > 0.

    Examples
    --------
    >>> sample_keys(np.array([2**63, 2**63], np.uint64), np.array([0.0, 9.0])).round(4)
    array([0.6931, 0.0693])
    """
    uniform = ((hashes >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
    return -np.log(uniform) / (np.asarray(traffic, np.float64) + 1)


def smallest(keys: np.ndarray, size: int) -> np.ndarray:
    """Return the positions of the size + 1 smallest keys, in order of place.

    One more than the sample has: `times_drawn` takes from it how likely the others were.

    Examples
    --------
    >>> smallest(np.array([0.3, 0.1, 0.9, 0.2]), 2)
    array([0, 1, 3])
    """
    return np.sort(np.argsort(keys, kind="stable")[: size + 1])


def times_drawn(keys: np.ndarray, traffic: np.ndarray, size: int) -> np.ndarray:
    """Return how many items each sampled one stands for: one over its chance of being drawn.

    Given the next larger key t, an item was drawn if its own is below: with probability
    ``1 - exp(-(traffic + 1) t)``. Sums over the sample times these estimate sums over all items
    without bias (Cohen and Kaplan, "Summarizing data using bottom-k sketches", PODC 2007).

    Parameters
    ----------
    keys, traffic
        [n] of the items that `smallest` leaves.
    size
        Of the sample.

    Returns
    -------
    np.ndarray
        [n] float64: 1 for all where all items are there, else 0 for the one that is too many.
    """
    if len(keys) <= size:
        return np.ones(len(keys))
    order = np.argsort(keys, kind="stable")
    threshold = keys[order[size]]
    times = -1 / np.expm1(-(np.asarray(traffic, np.float64) + 1) * threshold)
    times[order[size:]] = 0
    return times
