"""The online path as one SavedModel: string ids in, string ids out, no Keras and no LLM needed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from models.interests.alignment import PARTS
from models.interests.log_odds import log_odds
from models.interests.novelty_table import NoveltyTable
from models.retrieval.item_catalogue import Catalogue
from models.retrieval.popularity import last_days
from models.retrieval.retriever import RetrieverModel
from models.retrieval.serving.aligned_choice import aligned, table_part
from models.retrieval.serving.allowed_operations import check_operations
from models.retrieval.serving.cluster_scores import (
    Representatives,
    cluster_log_sums,
    cluster_representatives,
    cluster_scores,
)
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
SIGNATURES = (
    *("recommend", "explore", "explore_sampled", "explore_pooled", "explore_aligned"),
    "score_clusters",
)
_HISTORY = tf.TensorSpec([None, None], tf.string, name="history")


def compiled(*signature: tf.TensorSpec) -> Callable[[Callable[..., Any]], Any]:
    """Make a function a graph; it has no Python control flow, which would be slow to look for."""

    def compile_function(function: Callable[..., Any]) -> Any:
        plain = tf.autograph.experimental.do_not_convert(function)
        return tf.function(plain, input_signature=signature or None)

    return compile_function


class ServingModule(tf.Module):
    """The functions that become the SavedModel's signatures.

    Each takes `history` [batch, L], the item ids of users, oldest first. "" anywhere is padding,
    and ids outside the catalogue are skipped. All known clusters of a history count; the
    transformer sees the latest `max_length` items. An answer has `k` items. `alignment` [PARTS] is
    to be assigned.

    Raises ValueError if an item's cluster is not in the table, or k is below 1.
    """

    def __init__(
        self,
        model: RetrieverModel,
        catalogue: Catalogue,
        table: NoveltyTable,
        k: int,
        candidates: int,
    ) -> None:
        super().__init__()
        if np.max(catalogue.clusters) >= table.size:
            raise ValueError(
                f"an item is of cluster {np.max(catalogue.clusters)}, the novelty table describes "
                f"0 to {table.size - 1}: build both from the same clusters and level"
            )
        # Items have positions: see `ClusterTopK`. There, ineligible items have no cluster.
        items = ClusterTopK(table.size, k=k).index(
            model.items(tf.range(len(catalogue.item_ids))),
            tf.constant([str(item_id).encode() for item_id in catalogue.item_ids]),
            np.where(catalogue.eligible, catalogue.clusters, -1),
        )
        self.position_of = items.position_of
        self.starts = items.starts  # [clusters + 1], of the positions of eligible items
        self.clusters = constant(catalogue.clusters[items.order.numpy()], tf.int32)  # [items]

        self.novel = constant(table.novel, tf.int32)
        self.probability = constant(table.probability, tf.float32)
        self.log_odds = constant(log_odds(table), tf.int32)
        self.allowed = constant(table.allowed, tf.bool)
        self.descriptions = constant([text.encode() for text in table.descriptions], tf.string)

        # What the aligned score reads.
        self.candidates = candidates
        vectors, starts = items.candidates.numpy(), items.starts.numpy()
        # A user's score knows how popular items were ever: what is popular now is another part.
        self.of_user = model.config.dimension + 1
        representatives = cluster_representatives(vectors[:, : self.of_user], starts)
        self.representatives = Representatives(*map(constant, representatives))
        of_last_days = vectors[:, model.config.dimension + last_days(model.half_lives)]
        self.recent = constant(cluster_log_sums(of_last_days, starts), tf.float32)  # [clusters]
        self.alignment = tf.Variable(tf.zeros(len(PARTS)), trainable=False)

        # The weights of the Keras layers are saved; the layers, reached by methods alone, are not.
        self.weights = [*model.queries.variables, *items.variables]
        self.length, self.dimension = model.config.max_length, model.config.dimension
        self.query = model.query
        self.vectors = items.vectors
        self.search = items.search

        # The items of users without a history, [1, k]: none of a blocked cluster.
        allowed = tf.where(self.allowed)[None, :, 0]
        popular = self.recommend(tf.zeros([1, 0], tf.string), tf.cast(allowed, tf.int32))
        self.popular = {name: constant(value, value.dtype) for name, value in popular.items()}

    @compiled(_HISTORY, tf.TensorSpec([None, None], tf.int32, name="cluster_ids"))
    def recommend(self, history: tf.Tensor, cluster_ids: tf.Tensor) -> Outputs:
        """Return the best eligible items of the clusters [batch, C], outside the history.

        Unknown cluster ids are ignored, repeated ones count once. Without a known item in the
        history the ranking is by popularity. The outputs are item_ids and scores [batch, k], best
        first, equal scores in the order of the catalogue, filled up with "" and -inf.
        """
        check_rows(history, cluster_ids=cluster_ids)
        positions = self.position_of.lookup(history)
        return self.rank(positions, self.encode(positions), cluster_ids)

    @compiled(_HISTORY)
    def explore(self, history: tf.Tensor) -> Outputs:
        """Return the next new interest of each history, and the best items of it.

        The pair is the two newest interests, or, if the novelty table has nothing new for them, the
        most recent pair for which it has (see `pair_choice`). The outputs are novel_cluster [batch]
        int32 (-1: none), its description ("") and probability (0); item_ids and scores [batch, k];
        the pair c1 and c2; propensity, the probability that the choice comes to this novel_cluster.
        The items are the most popular ones if no interest is known, none if nothing is new.
        """
        return self.grounded(history, lambda _, last: most_recent(self.pairs(last)))

    @compiled(_HISTORY, tf.TensorSpec([None], tf.int64, name="seed"))
    def explore_sampled(self, history: tf.Tensor, seed: tf.Tensor) -> Outputs:
        """Do as `explore`, with a pair drawn by `seed` [batch]; newer interests are likelier."""
        check_rows(history, seed=seed)
        return self.grounded(history, lambda _, last: sampled(self.pairs(last), seed))

    @compiled(_HISTORY)
    def explore_pooled(self, history: tf.Tensor) -> Outputs:
        """Do as `explore`, with all pairs of the newest interests pooled (see `pooled_choice`)."""
        table = self.novel, self.log_odds, self.allowed
        return self.grounded(history, lambda _, last: pooled(last, self.has_items(), *table))

    @compiled(_HISTORY)
    def explore_aligned(self, history: tf.Tensor) -> Outputs:
        """Do as `explore`, with the highest aligned score (see `models.interests.alignment`).

        The answer is one of the `candidates` clusters that the novelty table proposes most for all
        pairs of the newest interests, and has items to recommend.
        """

        def choose(queries: tf.Tensor, last: tf.Tensor) -> Choice:
            parts, candidates, recommendable = self.scores_of_clusters(queries, last)
            return aligned(last, parts, candidates & recommendable, self.alignment)

        return self.grounded(history, choose)

    @compiled(_HISTORY)
    def score_clusters(self, history: tf.Tensor) -> Outputs:
        """Return what `explore_aligned` knows of all clusters.

        The outputs are parts [batch, clusters, PARTS], of which the weighted sum is the aligned
        score; and, [batch, clusters] each, candidates, which the table proposes, and recommendable,
        which are new to the user, not blocked and have items.
        """
        positions = self.position_of.lookup(history)
        found = self.scores_of_clusters(self.encode(positions), self.last_engagements(positions))
        return dict(zip(("parts", "candidates", "recommendable"), found, strict=True))

    def scores_of_clusters(
        self, queries: tf.Tensor, last: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return the outputs of `score_clusters`; the parts of clusters without items are 0."""
        table = self.novel, self.log_odds
        proposed, candidates = table_part(last, *table, self.candidates)
        user = cluster_scores(self.representatives, queries[:, : self.of_user])
        recent = tf.broadcast_to(self.recent, tf.shape(user))
        parts = tf.stack([proposed, user, recent], axis=2)
        parts = tf.where(self.has_items()[:, None], parts, 0.0)
        return parts, candidates, (last < 0) & self.has_items() & self.allowed

    def has_items(self) -> tf.Tensor:
        """Return which clusters [clusters] have eligible items."""
        return self.starts[1:] > self.starts[:-1]

    def pairs(self, last: tf.Tensor) -> Pairs:
        """Look up the pairs of users, as `answered_pairs`."""
        return answered_pairs(last, self.has_items(), self.novel, self.probability)

    def last_engagements(self, positions: tf.Tensor) -> tf.Tensor:
        """Do as `pair_choice.last_engagements` for positions [batch, L]."""
        clusters = tf.where(positions < 0, -1, tf.gather(self.clusters, tf.maximum(positions, 0)))
        return last_engagements(clusters, self.descriptions.shape[0])

    def grounded(
        self, history: tf.Tensor, choose: Callable[[tf.Tensor, tf.Tensor], Choice]
    ) -> Outputs:
        """Do as `explore`; `choose` takes queries and `last_engagements`."""
        positions = self.position_of.lookup(history)
        queries = self.encode(positions)
        return self.answer(positions, queries, choose(queries, self.last_engagements(positions)))

    @compiled()
    def answer(self, positions: tf.Tensor, queries: tf.Tensor, choice: Choice) -> Outputs:
        """Return the outputs of `explore` for a choice; one graph for all signatures."""
        text = tf.gather(self.descriptions, tf.maximum(choice.novel, 0))
        items = self.rank(positions, queries, choice.novel[:, None])
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

    def rank(self, positions: tf.Tensor, queries: tf.Tensor, cluster_ids: tf.Tensor) -> Outputs:
        """Do as `recommend` for positions [batch, L], -1 for unknown items, and their queries."""
        scores, item_ids = self.search((queries, cluster_ids), positions)
        return {"item_ids": item_ids, "scores": scores}

    @compiled(tf.TensorSpec([None, None], tf.int32))
    def encode(self, positions: tf.Tensor) -> tf.Tensor:
        """Return the queries [batch, dimension + H] of histories of positions [batch, L]."""
        seen = tf.ragged.boolean_mask(positions, positions >= 0)[:, -self.length :]
        lengths = tf.cast(seen.row_lengths(), tf.int32)
        longest = tf.maximum(tf.reduce_max(lengths), 1)
        vectors = tf.gather(self.vectors(), seen.to_tensor(0, shape=tf.stack([-1, longest])))
        return self.query(vectors[..., : self.dimension], lengths)


def check_rows(history: tf.Tensor, **others: tf.Tensor) -> None:
    """Raise InvalidArgumentError if another input has not one row for each history."""
    for name, values in others.items():
        tf.debugging.assert_equal(
            tf.shape(values)[0],
            tf.shape(history)[0],
            f"{name} must have one row for each row of history",
        )


def export_saved_model(module: ServingModule, path: Path) -> None:
    """Write a SavedModel with the SIGNATURES into the folder `path`.

    Plain TensorFlow loads it, without tensorflow-recommenders and Keras 2.
    """
    signatures = {name: getattr(module, name) for name in SIGNATURES}
    tf.saved_model.save(module, str(path), signatures=signatures)
    check_operations(str(path))
