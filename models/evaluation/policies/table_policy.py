"""A novelty table as a policy, alone and together with popularity."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.policies.count_policies import without
from models.interests.log_odds import answer_count, log_listed, log_unlisted


@dataclass(frozen=True)
class TablePolicy:
    """The log probabilities of a novelty table.

    A row lists its n best clusters; the others are as `log_unlisted` has them.

    Attributes
    ----------
    novel
        [M * M, n] int32, the clusters after pair c1 * M + c2, best first, -1 pads.
    probability
        [M * M, n] float32
    clusters
        Their number, M.
    blocked
        [blocked] clusters that are never an answer.
    """

    novel: NDArray[np.int32]
    probability: NDArray[np.float32]
    clusters: int
    blocked: NDArray[np.int32]

    def scores(self, c1: NDArray[np.int32], c2: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score the clusters, as `Policy.scores`."""
        pair = c1.astype(np.int64) * self.clusters + c2
        novel, p = self.novel[pair], self.probability[pair]
        allowed = answer_count(c1, c2, self.clusters, self.blocked)
        rest = log_unlisted(novel, p, allowed)
        scores = np.repeat(rest[:, None], self.clusters + 1, axis=1).astype(np.float32)
        np.put_along_axis(scores, novel, log_listed(p), axis=1)  # pads go to a column of their own
        return without(scores[:, :-1], c1, c2, self.blocked)


@dataclass(frozen=True)
class PriorPolicy:
    """A novelty table with the popularity that balanced training took out: log p + w log P(c).

    Attributes
    ----------
    table
        Gives log p.
    log_popularity
        [M] float32
    weight
        w
    """

    table: TablePolicy
    log_popularity: NDArray[np.float32]
    weight: float

    def scores(self, c1: NDArray[np.int32], c2: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score the clusters, as `Policy.scores`."""
        return self.table.scores(c1, c2) + np.float32(self.weight) * self.log_popularity
