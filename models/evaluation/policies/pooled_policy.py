"""A novelty table, and the counts it learned from, asked about all recent pairs of a user."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.interests.follow_lift import Affinity
from models.interests.recent_pairs import RECENT, pair_ranks, pair_weights


@dataclass(frozen=True)
class PooledPolicy:
    """The pooled evidence of a novelty table: see `models.interests.log_odds`.

    Attributes
    ----------
    novel
        [M * M, n] int32, the clusters after pair c1 * M + c2, best first, -1 pads.
    evidence
        [M * M, n] int32
    clusters
        Their number, M.
    """

    novel: NDArray[np.int32]
    evidence: NDArray[np.int32]
    clusters: int

    def scores(self, recent: NDArray[np.int32]) -> NDArray[np.float64]:
        """Score the clusters.

        Parameters
        ----------
        recent
            [users, RECENT] interests, the newest first; the oldest again where there are fewer.

        Returns
        -------
        [users, M] sums of evidence, each pair's with its weight; -inf for what no pair lists.
        """
        weight = _weights(recent)
        older, newer = pair_ranks(RECENT).T
        pair = recent[:, older].astype(np.int64) * self.clusters + recent[:, newer]
        novel = self.novel[pair]  # [users, pairs, n]
        weighted = self.evidence[pair] * weight[..., None]
        user = np.arange(len(recent))[:, None, None]
        listed = novel >= 0
        at = (user * self.clusters + novel)[listed]
        total = np.bincount(at, weighted[listed], len(recent) * self.clusters)
        return np.where(total > 0, total, -np.inf).reshape(len(recent), self.clusters)


@dataclass(frozen=True)
class PooledAffinity:
    """The mean of what `Affinity` gives for the recent pairs, each with its weight.

    Attributes
    ----------
    affinity
        Of M clusters.
    blocked
        [blocked] clusters that are never an answer.
    """

    affinity: Affinity
    blocked: NDArray[np.int32]

    def scores(self, recent: NDArray[np.int32]) -> NDArray[np.float64]:
        """Score the clusters, as `PooledPolicy.scores`; -inf for what is blocked."""
        weight = _weights(recent)
        weight = weight / weight.sum(axis=1, keepdims=True)
        ranks = pair_ranks(RECENT)
        total = np.zeros((len(recent), len(self.affinity.lift)))
        for rank in range(RECENT):
            of_rank = weight @ np.sum(ranks == rank, axis=1)  # twice of a pair with itself
            total += of_rank[:, None] * self.affinity.lift[recent[:, rank]]
        total[:, self.blocked] = -np.inf
        return total


def _weights(recent: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the weights of the pairs of users, [users, pairs]."""
    known = 1 + np.sum(recent[:, 1:] != recent[:, :-1], axis=1)
    return pair_weights(RECENT)[known]
