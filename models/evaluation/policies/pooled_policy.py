"""Policies that pool all recent pairs of a user, each with its weight: see `recent_pairs`."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.interests.follow_lift import FollowLift
from models.interests.log_odds import log_odds
from models.interests.novelty_table import NoveltyTable
from models.interests.recent_pairs import RECENT, pair_ranks, pair_weights


@dataclass(frozen=True, eq=False)
class PooledPolicy:
    """Pools the log odds of a novelty table: see `models.interests.log_odds`."""

    table: NoveltyTable

    def scores(self, recent: NDArray[np.int32]) -> NDArray[np.float64]:
        """Score the clusters, [users, M], by sums of weighted log odds.

        `recent` [users, RECENT] is from `recent_clusters`. Clusters that no pair lists have -inf.
        """
        size = self.table.size
        older, newer = (recent[:, rank] for rank in pair_ranks(RECENT).T)  # [users, pairs]
        novel = self.table.novel[older, newer]  # [users, pairs, n]
        weighted = self._log_odds[older, newer] * _weights(recent)[..., None]
        user = np.arange(len(recent))[:, None, None]
        listed = novel >= 0
        at = (user * size + novel)[listed]
        total = np.bincount(at, weighted[listed], len(recent) * size)
        return np.where(total > 0, total, -np.inf).reshape(len(recent), size)

    @cached_property
    def _log_odds(self) -> NDArray[np.int32]:
        return log_odds(self.table)


@dataclass(frozen=True)
class PooledFollowLift:
    """Averages the scores of `FollowLift` over the recent pairs."""

    follow_lift: FollowLift
    blocked: NDArray[np.int32]  # clusters that are never recommended

    def scores(self, recent: NDArray[np.int32]) -> NDArray[np.float64]:
        """Score the clusters, as `PooledPolicy.scores`; -inf for blocked clusters."""
        weight = _weights(recent)
        weight = weight / weight.sum(axis=1, keepdims=True)
        ranks = pair_ranks(RECENT)
        lift = self.follow_lift.lift
        total = np.zeros((len(recent), len(lift)))
        for rank in range(RECENT):
            of_rank = weight @ np.sum(ranks == rank, axis=1)  # twice for a pair of one cluster
            total += of_rank[:, None] * lift[recent[:, rank]]
        total[:, self.blocked] = -np.inf
        return total


def _weights(recent: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the weight of each pair of each user, [users, pairs]."""
    known = 1 + np.sum(recent[:, 1:] != recent[:, :-1], axis=1)
    return pair_weights(RECENT)[known]
