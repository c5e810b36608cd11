"""Puts trained weights on a catalogue that has changed since, without training.

Items that the training knew keep their vectors. The vector of a new item is made of its cluster and
its features, as in the item tower, by weights that are fitted to the vectors of the known items.
So the clusters may have other numbers than in the training, and the features other axes: both are
made anew when items are added.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse
from numpy.typing import NDArray

from models.retrieval.item_catalogue import Catalogue
from models.retrieval.retriever import RetrieverModel
from models.retrieval.trained_weights import TrainedWeights


def put_weights(weights: TrainedWeights, catalogue: Catalogue, model: RetrieverModel) -> None:
    """Put trained weights into a new model of a catalogue, whose popularity it keeps.

    Raises ValueError if the weights know none of the items, or are of another query tower.
    """
    at = pc.index_in(pa.array(catalogue.item_ids, pa.string()), value_set=weights.item_ids)
    known = at.is_valid().to_numpy(zero_copy_only=False)  # [items]
    if not known.any():
        raise ValueError("the trained weights know none of the items; train the retriever again")
    variables = model.queries.variables
    if [value.shape for value in weights.query] != [tuple(one.shape) for one in variables]:
        raise ValueError(
            "the trained weights are of another version of the retriever; train it again"
        )
    rows = at.drop_null().to_numpy()
    clusters, features = catalogue.clusters[known], catalogue.features[known]
    tower = model.items
    of_cluster, of_features = fit_content(
        weights.content[rows], clusters, features, tower.cluster.shape[0]
    )
    own = np.zeros((len(known), weights.config.dimension), np.float32)
    own[known] = weights.vectors[rows] - (of_cluster[clusters] + features @ of_features)
    for variable, value in zip(
        (*variables, tower.item, tower.cluster, tower.feature),
        (*weights.query, own, of_cluster, of_features),
        strict=True,
    ):
        variable.assign(value)
    tower.statistics.known.assign(known)


def fit_content(
    content: NDArray[np.float32],
    clusters: NDArray[np.int32],
    features: NDArray[np.float32],
    size: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fit content [n, d] = A[clusters] + features [n, F] @ B by least squares: A [size, d], B.

    B is fitted to the differences from the means of the clusters (the within estimator for fixed
    effects). Of several solutions B is the smallest. A cluster without items gets the mean of A
    over all items.
    """
    count = np.bincount(clusters, minlength=size)[:, None]
    members = scipy.sparse.csr_matrix(
        (np.ones(len(clusters)), (clusters, np.arange(len(clusters)))), (size, len(clusters))
    )

    def means(values: NDArray[np.float32]) -> NDArray[np.float64]:
        return (members @ values) / np.maximum(count, 1)  # [size, ...]

    mean_content, mean_features = means(content), means(features)
    spread = features - mean_features[clusters]  # [n, F] float64
    slope = np.linalg.lstsq(
        spread.T @ spread, spread.T @ (content - mean_content[clusters]), rcond=None
    )[0]
    level = mean_content - mean_features @ slope
    level = np.where(count > 0, level, np.sum(count * level, axis=0) / len(clusters))
    return level.astype(np.float32), slope.astype(np.float32)
