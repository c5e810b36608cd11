"""A novelty table asked about all recent pairs of a user at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.recent_pairs import RECENT, pair_ranks, pair_weights


@dataclass(frozen=True)
class PooledPolicy:
    """The pooled evidence of a novelty table: see `models.evidence`.

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
        known = 1 + np.sum(recent[:, 1:] != recent[:, :-1], axis=1)
        weight = pair_weights(RECENT)[known]  # [users, pairs]
        older, newer = pair_ranks(RECENT).T
        pair = recent[:, older].astype(np.int64) * self.clusters + recent[:, newer]
        novel = self.novel[pair]  # [users, pairs, n]
        weighted = self.evidence[pair] * weight[..., None]
        user = np.arange(len(recent))[:, None, None]
        at = (user * self.clusters + novel)[novel >= 0]
        total = np.bincount(at, weighted[novel >= 0], len(recent) * self.clusters)
        return np.where(total > 0, total, -np.inf).reshape(len(recent), self.clusters)
