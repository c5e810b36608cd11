"""Features of items: the principal components of their embeddings."""

from dataclasses import dataclass

import numpy as np

from models.common.unit_vectors import unit_rows

MOST = 64  # components that are kept
_NOISE = 1e-6  # components with less than this share of the first one's variance are rounding
_BATCH = 8_192


@dataclass(frozen=True)
class Projection:
    """Maps embeddings to features."""

    mean: np.ndarray  # [d] float32, of unit vectors
    axes: np.ndarray  # [d, F] float32


def fit_projection(embeddings: np.ndarray, times: np.ndarray, most: int = MOST) -> Projection:
    """Find the first principal components of a sample of items.

    `embeddings` [n, d] are scaled to unit length, as for the clusters; each stands for `times` [n]
    items. All components are divided by the same number: the features have a variance of 1 on
    average, and the first ones, which carry the most information, stay the largest. The largest
    weight of each component is positive. Components of rounding noise are left out, so F is
    `most`, d or the rank of the sample, whichever is the least; 0 if all rows are the same.
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
    """Return the features [n, F] float32 of items with embeddings [n, d]."""
    features = np.empty((len(embeddings), projection.axes.shape[1]), np.float32)
    for start in range(0, len(embeddings), _BATCH):
        part = slice(start, start + _BATCH)
        rows = unit_rows(embeddings[part].astype(np.float32))
        features[part] = (rows - projection.mean) @ projection.axes
    return features
