"""The popularity of items at a moment: logarithms of decayed counts of their engagements.

What was popular in the last days is often a better guess than what was popular ever. An
engagement of an age of one half-life counts a half; each of several half-lives makes a popularity
of its own, and the model learns how to mix them. A position of the training sees the snapshot from
before it happened, and no later one; the exported model has the latest.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HALF_LIVES = (math.inf, 30.0, 7.0, 1.0)  # days
_LAST_DAYS = 2  # the number of the half-life that tells what is popular now
_MOST_SNAPSHOTS = 256
_MOST_COUNTS = 1 << 28  # items times snapshots times half-lives: 1 GB
_DAY = 86_400_000_000  # microseconds

Part = tuple[NDArray[np.int32], NDArray[np.int64]]  # items, and times in microseconds since 1970


@dataclass(frozen=True)
class Popularity:
    """Log popularity in snapshots."""

    moments: NDArray[np.int64]  # [S] ascending, microseconds since 1970
    logs: NDArray[np.float32]  # [items, S, H] by the engagements before each moment

    def snapshot_at(self, times: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the number of the latest snapshot that is not after each time."""
        found = np.searchsorted(self.moments, times, side="right") - 1
        return np.maximum(found, 0).astype(np.int32)


def snapshots_of(items: int) -> int:
    """Return how many snapshots fit into memory.

    >>> snapshots_of(10_000), snapshots_of(1_000_000)
    (256, 67)
    """
    return min(_MOST_SNAPSHOTS, max(2, _MOST_COUNTS // (items * len(HALF_LIVES))))


def snapshot_moments(times: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the moments of snapshots for a sample of times, as many engagements between any two.

    The last one, "now", is after all of the sample; of no times it is the only one.

    >>> snapshot_moments(np.array([5, 1, 2, 3, 4]), most=3)
    array([1, 3, 6])
    """
    if not len(times):
        return np.zeros(1, np.int64)
    ordered = np.sort(times)
    inner = ordered[np.linspace(0, len(ordered), most - 1, endpoint=False).astype(int)]
    return np.unique(np.append(inner, ordered[-1] + 1))


def last_days(half_lives: int) -> int:
    """Return which of the half-lives of a model tells what is popular now.

    >>> last_days(len(HALF_LIVES)), last_days(1)
    (2, 0)
    """
    return min(_LAST_DAYS, half_lives - 1)


def decayed_popularity(parts: Iterable[Part], items: int, moments: NDArray[np.int64]) -> Popularity:
    """Return the popularity of `items` items, of engagements that come in parts.

    With c the decayed count of an item, the log popularity is log((c + 1) / sum(c + 1)): an item
    without engagements has one too. Engagements from the last moment on count nowhere.
    """
    counts = np.zeros((items, len(moments), len(HALF_LIVES)), np.float32)
    for item, times in parts:
        snapshot = np.searchsorted(moments, times, side="right")  # the first that counts it
        counted = snapshot < len(moments)
        item, times, snapshot = item[counted], times[counted], snapshot[counted]
        age = (moments[snapshot] - times) / _DAY
        for number, half_life in enumerate(HALF_LIVES):
            np.add.at(counts[..., number], (item, snapshot), 2.0 ** (-age / half_life))
    for number, half_life in enumerate(HALF_LIVES):
        kept = 2.0 ** (-np.diff(moments) / _DAY / half_life)
        for later in range(1, len(moments)):
            counts[:, later, number] += kept[later - 1] * counts[:, later - 1, number]
    counts += 1
    return Popularity(moments, np.log(counts / counts.sum(axis=0, keepdims=True)))
