"""The online path as one SavedModel: string ids in, string ids out, no Keras and no LLM to load."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.cluster_top_k import ClusterTopK, constant
from models.item_catalogue import Catalogue
from models.retriever import RetrieverModel

Outputs = dict[str, tf.Tensor]


@dataclass(frozen=True)
class PackedNoveltyTable:
    """The novelty table as dense arrays, for M clusters.

    Attributes
    ----------
    novel
        [M, M, n] int32, the clusters after (c1, c2), best first, -1 pads.
    probability
        [M, M, n] float32.
    descriptions
        [M] str.
    """

    novel: NDArray[np.int32]
    probability: NDArray[np.float32]
    descriptions: list[str]

    def __post_init__(self) -> None:
        clusters = len(self.descriptions)
        shape = self.novel.shape
        if len(shape) != 3 or shape[:2] != (clusters, clusters) or not shape[2]:
            raise ValueError(
                f"novel has shape {shape} for {clusters} descriptions: "
                f"it must be [{clusters}, {clusters}, at least 1]"
            )
        if self.probability.shape != shape:
            raise ValueError(f"probability has shape {self.probability.shape}, novel has {shape}")
        if np.min(self.novel) < -1 or np.max(self.novel) >= clusters:
            raise ValueError(
                f"novel clusters {np.min(self.novel)} to {np.max(self.novel)}: "
                f"they must be -1 (none) to {clusters - 1}"
            )


class Explorer(tf.Module):
    """The two functions that become the SavedModel's signatures."""

    def __init__(
        self, model: RetrieverModel, catalogue: Catalogue, table: PackedNoveltyTable, k: int
    ) -> None:
        super().__init__()
        clusters = len(table.descriptions)
        if np.max(catalogue.clusters) >= clusters:
            raise ValueError(
                f"an item is of cluster {np.max(catalogue.clusters)}, the novelty table describes "
                f"0 to {clusters - 1}: build both from the same clusters and level"
            )
        # Items have places: see `ClusterTopK`. The ineligible ones are of no cluster there.
        items = ClusterTopK(clusters, k=k).index(
            model.items(tf.range(len(catalogue.item_ids))),
            tf.constant([str(item_id).encode() for item_id in catalogue.item_ids]),
            np.where(catalogue.eligible, catalogue.clusters, -1),
        )
        self.place_of = items.place_of
        self.starts = items.starts  # [clusters + 1], of the places of eligible items
        self.clusters = constant(catalogue.clusters[items.order.numpy()], tf.int32)  # [items]

        self.novel = constant(table.novel, tf.int32)
        self.probability = constant(table.probability, tf.float32)
        self.descriptions = constant([text.encode() for text in table.descriptions], tf.string)

        # The weights of the Keras layers are saved; the layers, reached by methods alone, are not.
        self.weights = [*model.queries.variables, *items.variables]
        self.length = model.config.max_length
        self.query = model.query
        self.vectors = items.vectors
        self.search = items.search

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.string, name="history"),
            tf.TensorSpec([None, None], tf.int32, name="cluster_ids"),
        ]
    )
    def recommend(self, history: tf.Tensor, cluster_ids: tf.Tensor) -> Outputs:
        """Best eligible items of the clusters asked for, outside the history.

        Parameters
        ----------
        history
            [batch, L] item ids, oldest first. "" anywhere is padding, and ids that the catalogue
            does not have are skipped. Where no id is known the ranking is by popularity.
        cluster_ids
            [batch, C]. Ids that are no cluster are ignored, repeated ones count once.

        Returns
        -------
        Outputs
            item_ids [batch, k] and scores [batch, k], best first, equal scores in the order of
            the catalogue, filled up with "" and -inf.
        """
        return self.rank(self.place_of.lookup(history), cluster_ids)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.string, name="history")])
    def explore(self, history: tf.Tensor) -> Outputs:
        """Next new interest of each history, and the best items of it.

        The pair (c1, c2) is looked up in the novelty table; the answer is its first cluster that
        the history does not touch and that has something to recommend (if none has: the first
        that the history does not touch, without items).

        Parameters
        ----------
        history
            [batch, L], as `recommend` takes it. All of it counts for what is known; the
            transformer sees the latest `max_length` items.

        Returns
        -------
        Outputs
            c1, c2, novel_cluster [batch] int32 (-1: none), probability [batch] (0 where none),
            description [batch] ("" where none), item_ids and scores [batch, k].
        """
        places = self.place_of.lookup(history)  # [batch, L]
        clusters = tf.where(places < 0, -1, tf.gather(self.clusters, tf.maximum(places, 0)))
        c1, c2 = latest_pair(clusters)  # [batch]

        pair = tf.maximum(tf.stack([c1, c2], axis=1), 0)
        novel = tf.gather_nd(self.novel, pair)  # [batch, n]
        known = tf.reduce_any(novel[:, :, None] == clusters[:, None, :], axis=2)
        fresh = (novel >= 0) & ~known & (c2 >= 0)[:, None]
        stock = self.starts[1:] - self.starts[:-1]  # [clusters], eligible items
        stocked = fresh & (tf.gather(stock, tf.maximum(novel, 0)) > 0)
        usable = tf.where(tf.reduce_any(stocked, axis=1, keepdims=True), stocked, fresh)
        # Argmax promises nothing about ties, so the first is found as the least index.
        n = self.novel.shape[2]
        first = tf.reduce_min(tf.where(usable, tf.range(n), n), axis=1)  # [batch]
        found = first < n
        first = tf.minimum(first, n - 1)
        cluster = tf.where(found, tf.gather(novel, first, batch_dims=1), -1)
        chance = tf.gather(tf.gather_nd(self.probability, pair), first, batch_dims=1)
        text = tf.gather(self.descriptions, tf.maximum(cluster, 0))
        return {
            "novel_cluster": cluster,
            "description": tf.where(found, text, ""),
            "probability": tf.where(found, chance, 0.0),
            **self.rank(places, cluster[:, None]),
            "c1": c1,
            "c2": c2,
        }

    def rank(self, places: tf.Tensor, cluster_ids: tf.Tensor) -> Outputs:
        """`recommend` for a history of places [batch, L], -1 where unknown."""
        scores, item_ids = self.search((self.encode(places), cluster_ids), places)
        return {"item_ids": item_ids, "scores": scores}

    def encode(self, places: tf.Tensor) -> tf.Tensor:
        """Queries [batch, dimension + 1] of histories of places [batch, L], -1 where unknown."""
        seen = tf.ragged.boolean_mask(places, places >= 0)[:, -self.length :]
        vectors = tf.gather(self.vectors(), seen.to_tensor(0, shape=[None, self.length]))
        return self.query(vectors[..., :-1], tf.cast(seen.row_lengths(), tf.int32))


def latest_pair(clusters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The two distinct clusters with the latest engagements, older first.

    Parameters
    ----------
    clusters
        [batch, L] int32 cluster of each item of the history, oldest first, -1 where unknown.

    Returns
    -------
    c1, c2
        [batch] int32 each: equal where only one cluster is known, -1 where none is.
    """
    # A column of -1 in front is where the search ends that finds nothing.
    clusters = tf.pad(clusters, [[0, 0], [1, 0]], constant_values=-1)
    index = tf.range(tf.shape(clusters)[1])
    newest = tf.reduce_max(tf.where(clusters >= 0, index, 0), axis=1)
    c2 = tf.gather(clusters, newest, batch_dims=1)
    other = (clusters >= 0) & (clusters != c2[:, None])
    c1 = tf.gather(clusters, tf.reduce_max(tf.where(other, index, 0), axis=1), batch_dims=1)
    return tf.where(c1 < 0, c2, c1), c2


def export_saved_model(
    model: RetrieverModel, catalogue: Catalogue, table: PackedNoveltyTable, path: Path, k: int
) -> None:
    """Write the SavedModel with the signatures `recommend` and `explore` (see `Explorer`).

    Plain TensorFlow loads it: neither tensorflow-recommenders nor Keras 2 is needed.

    Parameters
    ----------
    model
        Trained on the catalogue.
    catalogue
        The items; its clusters are those of the table.
    table
        The novelty table.
    path
        Folder to write.
    k
        Items in an answer.

    Raises
    ------
    ValueError
        If an item's cluster is not in the table, or k is below 1.
    """
    explorer = Explorer(model, catalogue, table, k)
    signatures = {"recommend": explorer.recommend, "explore": explorer.explore}
    tf.saved_model.save(explorer, str(path), signatures=signatures)
