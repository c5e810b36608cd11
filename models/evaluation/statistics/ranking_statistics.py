"""What a policy did on test transitions, as sums over bootstrap resamples.

All sums are of integers, so that those of parts of the users add up to the same in any order.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from models.evaluation.statistics.ranking import UNRANKED, entropy

SHOWN = 5  # clusters that novelty looks at
_K = 5  # of the recall by label
_ONE = 1 << 32  # reciprocal ranks are counted in 2^-32


@dataclass(frozen=True, eq=False)
class RankSums:
    """Sums over transitions; B resamples, in the first place what was observed.

    Attributes
    ----------
    labels, hits, winners
        [M, 1 + B] int32: transitions to each cluster, those whose rank is below 5, and how often
        each cluster ranks first.
    hits_1, hits_10, reciprocal, shown, new
        [1 + B] int64: ranks below 1 and 10; reciprocal ranks in 2^-32; clusters shown in the first
        places, and those of them that were new to the user.
    """

    labels: NDArray[np.int32]
    hits: NDArray[np.int32]
    winners: NDArray[np.int32]
    hits_1: NDArray[np.int64]
    hits_10: NDArray[np.int64]
    reciprocal: NDArray[np.int64]
    shown: NDArray[np.int64]
    new: NDArray[np.int64]

    def __add__(self, other: "RankSums") -> "RankSums":
        mine, others = vars(self), vars(other)
        return RankSums(**{name: mine[name] + others[name] for name in mine})

    def metrics(self, is_head: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
        """Return the metrics of ranks r from 0 of the one relevant cluster, NaN where undefined.

        recall_at_k
            Share of transitions with r < k, with one relevant cluster each also the hit rate.
        macro_recall_at_5
            Mean of the recall@5 of each cluster that occurs: each interest counts the same.
        mrr
            Mean of 1 / (r + 1), 0 for UNRANKED (Voorhees, TREC-8, 1999).
        entropy
            Of the clusters that rank first; see `ranking.entropy`.
        novelty
            Share of the clusters shown that the user had not engaged with before.
        head_recall_at_5, tail_recall_at_5
            Recall@5 of the transitions to head clusters and to the others.

        Parameters
        ----------
        is_head
            [M] of `ranking.head`.

        Returns
        -------
        name -> [1 + B]
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
    winner: NDArray[np.int32],
    clusters: int,
) -> RankSums:
    """Add up what a policy did on transitions.

    Parameters
    ----------
    weights
        [users, 1 + B] of `poisson_weights`.
    user
        [n] row of `weights` of each transition.
    novel
        [n] cluster that the user took up.
    rank
        [n] of it, from 0; UNRANKED if it was not ranked.
    shown
        [n, k] clusters in the first places, -1 for none.
    known
        [n, M] whether the user knew a cluster.
    winner
        [n] cluster in the first place, -1 for none.
    clusters
        Their number, M.
    """

    def by_cluster(cluster: NDArray[np.int32], keep: NDArray[np.bool_]) -> NDArray[np.int32]:
        at = (cluster[keep], user[keep])
        counts = scipy.sparse.coo_matrix(
            (np.ones(len(at[0]), np.int32), at), (clusters, len(weights))
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
