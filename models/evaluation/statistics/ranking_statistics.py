"""Statistics of a policy on test transitions, as sums over bootstrap resamples.

All sums are of integers: the sums of parts of the users add up to the same in any order.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from models.evaluation.statistics.ranking import UNRANKED, entropy

SHOWN = 5  # clusters in the first places
_K = 5  # of the recall by label
_ONE = 1 << 32  # reciprocal ranks are counted in 2^-32


@dataclass(frozen=True, eq=False)
class RankSums:
    """Sums over transitions; B resamples, the observed value first."""

    labels: NDArray[np.int32]  # [M, 1 + B] transitions to each cluster
    hits: NDArray[np.int32]  # [M, 1 + B] transitions with rank below 5
    winners: NDArray[np.int32]  # [M, 1 + B] how often each cluster ranks first
    hits_1: NDArray[np.int64]  # [1 + B] transitions with rank below 1
    hits_10: NDArray[np.int64]  # [1 + B] transitions with rank below 10
    reciprocal: NDArray[np.int64]  # [1 + B] reciprocal ranks, in 2^-32
    shown: NDArray[np.int64]  # [1 + B] clusters in the first places
    new: NDArray[np.int64]  # [1 + B] clusters in the first places that were new to the user

    def __add__(self, other: "RankSums") -> "RankSums":
        mine, others = vars(self), vars(other)
        return RankSums(**{name: mine[name] + others[name] for name in mine})

    def metrics(self, is_head: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
        """Return metrics [1 + B] of the ranks r (from 0) of the novel clusters, NaN if undefined.

        recall_at_k
            Share of transitions with r < k; the hit rate, as one cluster is relevant.
        macro_recall_at_5
            Mean of the recall@5 of each cluster that occurs: each interest counts the same.
        mrr
            Mean of 1 / (r + 1), 0 for UNRANKED (Voorhees, TREC-8, 1999).
        entropy
            `ranking.entropy` of the clusters that rank first.
        novelty
            Share of the shown clusters that were new to the user.
        head_recall_at_5, tail_recall_at_5
            Recall@5 of the transitions to head clusters (`is_head` [M]) and to the others.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            transitions = self.labels.sum(axis=0)
            by_label = self.hits / self.labels
            return {
                "recall_at_1": self.hits_1 / transitions,
                "recall_at_5": self.hits.sum(axis=0) / transitions,
                "recall_at_10": self.hits_10 / transitions,
                "macro_recall_at_5": np.nansum(by_label, axis=0) / np.sum(self.labels > 0, axis=0),
                "mrr": self.reciprocal / _ONE / transitions,
                "entropy": entropy(self.winners),
                "novelty": self.new / self.shown,
                "head_recall_at_5": _recall(self.hits[is_head], self.labels[is_head]),
                "tail_recall_at_5": _recall(self.hits[~is_head], self.labels[~is_head]),
            }


def _recall(hits: NDArray[np.int32], labels: NDArray[np.int32]) -> NDArray[np.float64]:
    return hits.sum(axis=0) / labels.sum(axis=0)


def rank_sums(
    weights: NDArray[np.int32],
    user: NDArray[np.int64],
    novel: NDArray[np.int32],
    rank: NDArray[np.int32],
    shown: NDArray[np.int32],
    known: NDArray[np.bool_],
) -> RankSums:
    """Add up how a policy ranked on transitions.

    Parameters
    ----------
    weights
        [users, 1 + B] of `poisson_weights`.
    user
        [n] row of `weights` of each transition.
    novel, rank
        [n] the cluster that the user took up, and its rank from 0 or UNRANKED.
    shown
        [n, k] clusters in the first places, -1 pads.
    known
        [n, M] whether the user knew a cluster.
    """
    winner = shown[:, 0]

    def by_cluster(cluster: NDArray[np.int32], keep: NDArray[np.bool_]) -> NDArray[np.int32]:
        at = (cluster[keep], user[keep])
        counts = scipy.sparse.coo_matrix(
            (np.ones(len(at[0]), np.int32), at), (known.shape[1], len(weights))
        )
        return counts.tocsr() @ weights

    def total(values: NDArray[Any]) -> NDArray[np.int64]:
        of_user = np.zeros(len(weights), np.int64)
        np.add.at(of_user, user, values)
        return of_user @ weights

    there = shown >= 0
    known_ones = np.take_along_axis(known, np.maximum(shown, 0), axis=1)
    reciprocal = np.where(rank == UNRANKED, 0, np.round(_ONE / (rank + 1.0))).astype(np.int64)
    return RankSums(
        labels=by_cluster(novel, np.ones(len(novel), bool)),
        hits=by_cluster(novel, rank < _K),
        winners=by_cluster(winner, winner >= 0),
        hits_1=total(rank < 1),
        hits_10=total(rank < 10),
        reciprocal=total(reciprocal),
        shown=total(there.sum(axis=1)),
        new=total((there & ~known_ones).sum(axis=1)),
    )
