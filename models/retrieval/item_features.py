"""What items are about in a few numbers: the principal components of their embeddings."""

from dataclasses import dataclass

import numpy as np

from models.common.unit_vectors import unit_rows

MOST = 64  # components that are kept
_NOISE = 1e-6  # share of the first component's variance that is rounding
_BATCH = 8_192


@dataclass(frozen=True)
class Projection:
    """From embeddings to features.

    Attributes
    ----------
    mean
        [d] float32, of unit vectors.
    axes
        [d, F] float32.
    """

    mean: np.ndarray
    axes: np.ndarray


def fit_projection(embeddings: np.ndarray, times: np.ndarray, most: int = MOST) -> Projection:
    """Find the first principal components of a sample of items.

    Directions count, as for the clusters: rows are scaled to unit length. All components are
    divided by one number, so that the features have a variance of 1 on average and the first
    ones, which say most, stay the largest. Components that are rounding noise are left out.
    The sign of each is such that its largest weight is positive.

    Parameters
    ----------
    embeddings
        [n, d] float, any length.
    times
        [n], how many items each one stands for.
    most
        Components, at most.

    Returns
    -------
    Projection
        F is `most`, d or the rank of the sample, whichever is least; 0 where all are the same.
    """
    weights = np.asarray(times, np.float64) / np.sum(times)
    dimension = embeddings.shape[1]
    mean, moments = np.zeros(dimension), np.zeros((dimension, dimension))
    for start in range(0, len(embeddings), _BATCH):
        part = slice(start, start + _BATCH)
        rows = unit_rows(embeddings[part].astype(np.float32)).astype(np.float64)
        mean += weights[part] @ rows
        moments += (rows * weights[part, None]).T @ rows
    values, vectors = np.linalg.eigh(moments - np.outer(mean, mean))  # ascending
    values, axes = values[::-1][:most], vectors[:, ::-1][:, :most]
    kept = values > _NOISE * max(float(values[0]), _NOISE)
    values, axes = values[kept], axes[:, kept]
    largest = axes[np.argmax(np.abs(axes), axis=0), np.arange(axes.shape[1])]
    axes = axes * np.sign(largest)
    scale = np.sqrt(np.mean(values)) if len(values) else 1.0
    return Projection(mean.astype(np.float32), (axes / scale).astype(np.float32))


def project(projection: Projection, embeddings: np.ndarray) -> np.ndarray:
    """Return the features of items.

    Parameters
    ----------
    projection
        From `fit_projection`.
    embeddings
        [n, d] float.

    Returns
    -------
    np.ndarray
        [n, F] float32.
    """
    features = np.empty((len(embeddings), projection.axes.shape[1]), np.float32)
    for start in range(0, len(embeddings), _BATCH):
        part = slice(start, start + _BATCH)
        rows = unit_rows(embeddings[part].astype(np.float32))
        features[part] = (rows - projection.mean) @ projection.axes
    return features
