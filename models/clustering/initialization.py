"""Splits points along principal directions: where a k-means can begin without chance.

Su and Dy, "In search of deterministic methods for initializing k-means and Gaussian mixture
clustering", Intelligent Data Analysis 11, 2007.
"""

import numpy as np

from models.clustering.unit_vectors import batches, label_sums, scatters

_NOISE_DECIMALS = 9  # of an offset along a direction
_POWERS = 40


def principal_parts(points: np.ndarray, masses: np.ndarray, count: int) -> np.ndarray:
    """Halve, along its principal direction, the part with the most scatter until there are `count`.

    Parameters
    ----------
    points
        [m, d], distinct.
    masses
        [m] > 0.
    count
        At most m.

    Returns
    -------
    np.ndarray
        [m] int64, ids of parts; none is empty.
    """
    parts = [np.arange(len(points))]
    widths = [1.0]
    while len(parts) < count:
        widest = int(np.argmax(widths))
        part = parts[widest]
        mean, covariance = _moments(points[part], masses[part])
        direction = _principal_direction(covariance)
        # The side of the mean; its sign, and so the order of the parts, by the largest component.
        offsets = np.concatenate(
            [(points[part[rows]] - mean) @ direction for rows in batches(len(part), len(mean))]
        )
        sign = np.sign(direction[np.abs(direction).argmax()])
        side = offsets.round(_NOISE_DECIMALS) * sign > 0
        if side.all() or not side.any():  # as close as rounding: any half will do
            side = np.arange(len(part)) < len(part) // 2
        halves = [part[side], part[~side]]
        parts[widest : widest + 1] = halves
        widths[widest : widest + 1] = [_scatter(points[half], masses[half]) for half in halves]
    labels = np.empty(len(points), np.int64)
    for number, part in enumerate(parts):
        labels[part] = number
    return labels


def _principal_direction(covariance: np.ndarray) -> np.ndarray:
    """Return about the first eigenvector [d], by power iteration: any wide direction will do."""
    direction = covariance[np.diagonal(covariance).argmax()]
    for _ in range(_POWERS):
        direction = covariance @ direction
        direction /= max(np.linalg.norm(direction), np.finfo(np.float64).tiny)
    return direction


def _mean(points: np.ndarray, masses: np.ndarray) -> np.ndarray:
    return label_sums(points, masses, np.zeros(len(points), np.int64), 1)[0] / masses.sum()


def _moments(points: np.ndarray, masses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [d] and scatter matrix [d, d] float64."""
    mean = _mean(points, masses)
    matrix = np.zeros((points.shape[1], points.shape[1]))
    for rows in batches(*points.shape):
        offsets = (points[rows] - mean) * np.sqrt(masses[rows])[:, None]
        matrix += offsets.T @ offsets
    return mean, matrix


def _scatter(points: np.ndarray, masses: np.ndarray) -> float:
    """Sum of squared distances to the mean, 0 for a single point."""
    if len(points) == 1:
        return 0.0
    centre = _mean(points, masses)[None]
    return scatters(points, masses, np.zeros(len(points), np.int64), centre)
