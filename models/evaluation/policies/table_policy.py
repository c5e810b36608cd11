"""A novelty table as a policy, alone and with popularity added."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.policies.count_policies import exclude
from models.interests.log_odds import log_listed, log_unlisted
from models.interests.novelty_table import NoveltyTable


@dataclass(frozen=True, eq=False)
class TablePolicy:
    """Scores clusters by their log probabilities; `log_unlisted` for clusters without one."""

    table: NoveltyTable

    def scores(self, c1: NDArray[np.int32], c2: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score the clusters, as `Policy.scores`."""
        table = self.table
        novel, p = table.novel[c1, c2], table.probability[c1, c2]
        rest = log_unlisted(novel, p, table.candidate_count(c1, c2))
        scores = np.repeat(rest[:, None], table.size + 1, axis=1).astype(np.float32)
        np.put_along_axis(scores, novel, log_listed(p), axis=1)  # pads go to a column of their own
        return exclude(scores[:, :-1], c1, c2, ~table.allowed)


@dataclass(frozen=True)
class PriorPolicy:
    """Adds back the popularity that balanced training took out: log p + w log P(c)."""

    table: TablePolicy
    log_popularity: NDArray[np.float32]  # [M] log P(c)
    weight: float  # w

    def scores(self, c1: NDArray[np.int32], c2: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score the clusters, as `Policy.scores`."""
        return self.table.scores(c1, c2) + np.float32(self.weight) * self.log_popularity
