"""Pairs of clusters (c1, c2) as single numbers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def pair_index(
    c1: NDArray[np.integer], c2: NDArray[np.integer], size: int
) -> NDArray[np.signedinteger[Any]]:
    """Return c1 * M + c2 for M = `size` clusters: int64, in the order of (c1, c2).

    >>> pair_index(np.array([0, 2]), np.array([1, 0]), 3)
    array([1, 6])
    """
    return np.asarray(c1, np.int64) * size + c2


def unpair(index: Any, size: int) -> tuple[Any, Any]:
    """Return the c1 and c2 of numbers that `pair_index` made.

    >>> unpair(np.array([1, 6]), 3)
    (array([0, 2]), array([1, 0]))
    """
    return np.divmod(index, size)
