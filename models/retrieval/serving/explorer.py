"""The online path as one SavedModel: string ids in, string ids out, no Keras and no LLM to load."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.interests.log_odds import evidence
from models.retrieval.item_catalogue import Catalogue
from models.retrieval.retriever import RetrieverModel
from models.retrieval.serving.cluster_top_k import ClusterTopK, constant
from models.retrieval.serving.pair_choice import (
    Choice,
    Pairs,
    answered_pairs,
    last_engagements,
    most_recent,
    sampled,
)
from models.retrieval.serving.pooled_choice import pooled

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
    blocked
        Clusters that are never an answer. The table has none of them; who has no history must not
        get items of them either.
    """

    novel: NDArray[np.int32]
    probability: NDArray[np.float32]
    descriptions: list[str]
    blocked: tuple[int, ...] = ()

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
    """The functions that become the SavedModel's signatures."""

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
        self.evidence = constant(evidence(table.novel, table.probability, table.blocked), tf.int32)
        self.allowed = constant(~np.isin(np.arange(clusters), table.blocked), tf.bool)
        self.descriptions = constant([text.encode() for text in table.descriptions], tf.string)

        # The weights of the Keras layers are saved; the layers, reached by methods alone, are not.
        self.weights = [*model.queries.variables, *items.variables]
        self.length = model.config.max_length
        self.query = model.query
        self.vectors = items.vectors
        self.search = items.search

        # What who has no history gets, [1, k].
        answerable = tf.where(self.allowed)[None, :, 0]
        popular = self.recommend(tf.zeros([1, 0], tf.string), tf.cast(answerable, tf.int32))
        self.popular = {name: constant(value, value.dtype) for name, value in popular.items()}

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

        The novelty table is asked about the two newest interests; where it has nothing new for
        them, about the most recent pair for which it has (see `pair_choice`).

        Parameters
        ----------
        history
            [batch, L], as `recommend` takes it. All of it counts for what is known; the
            transformer sees the latest `max_length` items.

        Returns
        -------
        Outputs
            novel_cluster [batch] int32 (-1: none), description [batch] ("" where none),
            probability [batch] (0 where none), item_ids and scores [batch, k]; c1 and c2 [batch]
            int32, the pair; propensity [batch], the probability with which the policy comes to
            this novel_cluster. Where no interest is known the items are the most popular ones,
            where nothing is new there are none.
        """
        return self.grounded(history, lambda *known: most_recent(self.pairs(*known)))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.string, name="history"),
            tf.TensorSpec([None], tf.int64, name="seed"),
        ]
    )
    def explore_sampled(self, history: tf.Tensor, seed: tf.Tensor) -> Outputs:
        """Next new interest after a pair that is drawn, newer interests being likelier.

        Parameters
        ----------
        history
            [batch, L], as `explore` takes it.
        seed
            [batch]: another one, another draw.

        Returns
        -------
        Outputs
            As of `explore`.
        """
        return self.grounded(history, lambda *known: sampled(self.pairs(*known), seed))

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.string, name="history")])
    def explore_pooled(self, history: tf.Tensor) -> Outputs:
        """Next new interest after all pairs of the eight newest interests together.

        Parameters
        ----------
        history
            [batch, L], as `explore` takes it.

        Returns
        -------
        Outputs
            As of `explore`; c1 and c2 are the newest pair, and probability is that of the pooled
            distribution (see `models.retrieval.serving.pooled_choice`).
        """
        return self.grounded(
            history,
            lambda last, has_items: pooled(
                last, self.novel, self.evidence, self.allowed, has_items
            ),
        )

    def pairs(self, last: tf.Tensor, has_items: tf.Tensor) -> Pairs:
        """Ask the novelty table, as `answered_pairs`."""
        return answered_pairs(last, self.novel, self.probability, has_items)

    def grounded(
        self, history: tf.Tensor, policy: Callable[[tf.Tensor, tf.Tensor], Choice]
    ) -> Outputs:
        """`explore` with a policy, a function of `last_engagements` and of what has items."""
        places = self.place_of.lookup(history)  # [batch, L]
        clusters = tf.where(places < 0, -1, tf.gather(self.clusters, tf.maximum(places, 0)))
        last = last_engagements(clusters, len(self.descriptions))
        has_items = self.starts[1:] > self.starts[:-1]  # [clusters], with eligible items
        choice = policy(last, has_items)
        text = tf.gather(self.descriptions, tf.maximum(choice.novel, 0))
        items = self.rank(places, choice.novel[:, None])
        stranger = (choice.c2 < 0)[:, None]
        return {
            "novel_cluster": choice.novel,
            "description": tf.where(choice.novel < 0, "", text),
            "probability": choice.probability,
            "item_ids": tf.where(stranger, self.popular["item_ids"], items["item_ids"]),
            "scores": tf.where(stranger, self.popular["scores"], items["scores"]),
            "c1": choice.c1,
            "c2": choice.c2,
            "propensity": choice.propensity,
        }

    def rank(self, places: tf.Tensor, cluster_ids: tf.Tensor) -> Outputs:
        """`recommend` for a history of places [batch, L], -1 where unknown."""
        scores, item_ids = self.search((self.encode(places), cluster_ids), places)
        return {"item_ids": item_ids, "scores": scores}

    def encode(self, places: tf.Tensor) -> tf.Tensor:
        """Queries [batch, dimension + 1] of histories of places [batch, L], -1 where unknown."""
        seen = tf.ragged.boolean_mask(places, places >= 0)[:, -self.length :]
        lengths = tf.cast(seen.row_lengths(), tf.int32)
        longest = tf.maximum(tf.reduce_max(lengths), 1)
        vectors = tf.gather(self.vectors(), seen.to_tensor(0, shape=tf.stack([-1, longest])))
        return self.query(vectors[..., :-1], lengths)


def export_saved_model(
    model: RetrieverModel, catalogue: Catalogue, table: PackedNoveltyTable, path: Path, k: int
) -> None:
    """Write the SavedModel with the signatures that `Explorer` has.

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
    signatures = {
        name: getattr(explorer, name)
        for name in ("recommend", "explore", "explore_sampled", "explore_pooled")
    }
    tf.saved_model.save(explorer, str(path), signatures=signatures)
