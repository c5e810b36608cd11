"""The baseline of the search within clusters: TFRS's BruteForce over all items, with a mask."""

import numpy as np

from models.retrieval.serving.cluster_top_k import Queries, tf, tfrs

TopK = tuple[tf.Tensor, tf.Tensor]  # scores, identifiers


class MaskedBruteForce(tfrs.layers.factorized_top_k.BruteForce):
    """BruteForce that takes (queries, cluster_ids [batch, 1]) and masks other clusters' items."""

    def __init__(self, clusters: tf.Tensor, k: int) -> None:
        super().__init__(k=k)
        self.clusters = clusters  # [items]

    def call(self, queries: Queries, k: int | None = None) -> TopK:
        """Return scores and identifiers [batch, k]."""
        queries, cluster_ids = queries
        scores = self._compute_score(queries, self._candidates)  # [batch, items]
        scores = tf.where(self.clusters == cluster_ids, scores, -np.inf)
        best = tf.math.top_k(scores, self._k if k is None else k)
        found = tf.gather(self._identifiers, best.indices)
        none = tf.constant("" if found.dtype == tf.string else -1, found.dtype)
        return best.values, tf.where(best.values == -np.inf, none, found)

    def search(self, queries: Queries, excluded: tf.Tensor | None, k: int | None = None) -> TopK:
        """Search like `ClusterTopK.search`, but exclude nothing."""
        return self.call(queries, k)
