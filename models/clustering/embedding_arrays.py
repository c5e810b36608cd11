"""Arrays of embeddings, processed in batches that fit in memory."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse

_DECIMALS = 4  # far coarser than floating-point noise, finer than the meaning of embeddings
_CELLS = 1 << 20  # of an array that is in memory at once


def rounded_unit_rows(embeddings: np.ndarray) -> np.ndarray:
    """Return rows of length 1 [n, d] float32, rounded to a grid; a row of zeros stays.

    Embeddings that differ by floating-point noise become equal. Raises ValueError for values that
    are not finite and for arrays with more than two axes.
    """
    rows = np.atleast_2d(embeddings)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(
            f"embeddings of shape {rows.shape} must be [items, dimensions] and finite: look for "
            "NaN or infinite values in the embedding column"
        )
    result = np.empty(rows.shape, np.float32)
    for part in batches(len(rows), rows.shape[1]):
        batch = rows[part].astype(np.float64)
        # Division by the largest entry first keeps the squares of huge and tiny values in range.
        tiny = np.finfo(np.float64).tiny
        batch /= np.maximum(np.abs(batch).max(1, initial=0, keepdims=True), tiny)
        batch /= np.maximum(np.sqrt((batch * batch).sum(1, keepdims=True)), tiny)
        result[part] = batch.round(_DECIMALS) + 0.0  # -0.0 becomes 0.0
    return result


def batches(rows: int, width: int) -> Iterator[slice]:
    """Cut rows into slices for which an array [slice, width] fits in memory."""
    size = max(1, _CELLS // max(1, width))
    return (slice(first, first + size) for first in range(0, rows, size))


def label_sums(
    points: np.ndarray, masses: np.ndarray, labels: np.ndarray, count: int
) -> np.ndarray:
    """Sum masses [n] times points [n, d] by label: [count, d] float64."""
    sums = np.zeros((count, points.shape[1]))
    for part in batches(*points.shape):
        mass = masses[part]
        members = scipy.sparse.csr_array(
            (mass, (labels[part], np.arange(len(mass)))), (count, len(mass))
        )
        sums += members @ points[part].astype(np.float64)
    return sums


def label_means(
    points: np.ndarray, masses: np.ndarray, labels: np.ndarray, count: int
) -> np.ndarray:
    """Return the weighted mean of the points of each label [count, d], nan for an empty label."""
    with np.errstate(invalid="ignore"):
        sums = label_sums(points, masses, labels, count)
        return sums / np.bincount(labels, masses, count)[:, None]


def scatter(
    points: np.ndarray, masses: np.ndarray, labels: np.ndarray, centres: np.ndarray
) -> float:
    """Sum masses times squared distances of points to the centre [count, d] of their label."""
    return float(
        sum(
            masses[part] @ ((points[part] - centres[labels[part]]) ** 2).sum(1)
            for part in batches(*points.shape)
        )
    )
