"""Baselines fitted on counts of transitions: what exploration without an LLM would show.

Every conditional probability backs off to the lower order with a Dirichlet prior (MacKay & Peto,
"A hierarchical Dirichlet language model", 1995): P(c | x) = (n(x, c) + a P(c)) / (n(x) + a). The
lower order weighs as much as a users.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from models.common.unit_vectors import unit_rows
from models.evaluation.policies.policy import Policy
from models.interests.pairs import pair_index

# Users that the lower order counts for. Of 5, 20, 50, 100 and 200, on the valid users of
# ml-latest-small and movietweetings-100k with 48 clusters, only markov_2 depends on it: its
# recall@5 is .207, .211, .221, .217, .214 and .212, .215, .223, .229, .232.
CONCENTRATION = 50.0
_UNSEEN = 1.0  # users added to the count of each cluster, so that no probability is 0


@dataclass(frozen=True)
class TransitionCounts:
    """How many users made each transition between M clusters."""

    c1: NDArray[np.int32]  # [rows], as are the next three
    c2: NDArray[np.int32]
    novel: NDArray[np.int32]
    users: NDArray[np.int64]  # at least 1
    clusters: int  # M

    def labels(self) -> NDArray[np.int64]:
        """Return how many users took each cluster up, [M]."""
        return np.bincount(self.novel, self.users, self.clusters).astype(np.int64)

    def after(self, earlier: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return how many users went from each interest to each cluster, [M, M].

        `earlier` [rows] is c1 or c2.
        """
        pair = pair_index(earlier, self.novel, self.clusters)
        counted = np.bincount(pair, self.users, self.clusters**2).astype(np.float64)
        return counted.reshape(self.clusters, self.clusters)


@dataclass(frozen=True)
class AdditivePolicy:
    """Adds a score for each interest: older[c1] + newer[c2] + base."""

    older: NDArray[np.float32]  # [M, M], row c1
    newer: NDArray[np.float32]  # [M, M], row c2
    base: NDArray[np.float32]  # [M]
    blocked: NDArray[np.int32]  # clusters that are never recommended

    def scores(self, c1: NDArray[np.int32], c2: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score the clusters, as `Policy.scores`."""
        return exclude(self.older[c1] + self.newer[c2] + self.base, c1, c2, self.blocked)


@dataclass(frozen=True)
class SecondOrderPolicy:
    """Second-order Markov: log P(c | c1, c2), which backs off to the first order."""

    pairs: scipy.sparse.csr_matrix  # [M * M, M] float32 users, rows by `pair_index`
    first_order: NDArray[np.float32]  # [M, M] P(c | c2)
    blocked: NDArray[np.int32]

    def scores(self, c1: NDArray[np.int32], c2: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score the clusters, as `Policy.scores`."""
        counted = _rows(self.pairs, c1, c2)
        total = counted.sum(axis=1, keepdims=True) + CONCENTRATION
        p = (counted + CONCENTRATION * self.first_order[c2]) / total
        return exclude(np.log(p), c1, c2, self.blocked)


@dataclass(frozen=True)
class PairCountPolicy:
    """Ranks clusters by the users that went to them from the pair, then by popularity."""

    pairs: scipy.sparse.csr_matrix  # as of `SecondOrderPolicy`, whole numbers
    popularity_rank: NDArray[np.int32]  # [M], 0 for the least popular
    blocked: NDArray[np.int32]

    def scores(self, c1: NDArray[np.int32], c2: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score the clusters by their position among those of the pair, as `Policy.scores`."""
        size = len(self.popularity_rank)
        key = _rows(self.pairs, c1, c2).astype(np.int64) * size + self.popularity_rank
        # Positions are exact in 32 bits; the key, of counts of many users, is not.
        position = np.empty(key.shape, np.float32)
        np.put_along_axis(position, np.argsort(key, axis=1), np.arange(size, dtype=np.float32), 1)
        return exclude(position, c1, c2, self.blocked)


def _rows(
    pairs: scipy.sparse.csr_matrix, c1: NDArray[np.int32], c2: NDArray[np.int32]
) -> NDArray[np.float32]:
    return pairs[pair_index(c1, c2, pairs.shape[1])].toarray()


def exclude(
    scores: NDArray[np.float32],
    c1: NDArray[np.int32],
    c2: NDArray[np.int32],
    blocked: NDArray[np.integer] | NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Set the scores [n, M] of the pair's own and of blocked clusters to -inf, in place."""
    rows = np.arange(len(scores))
    scores[rows, c1] = scores[rows, c2] = -np.inf
    scores[:, blocked] = -np.inf
    return scores


def popularity(counts: TransitionCounts) -> NDArray[np.float64]:
    """Return P(c), the share of transitions to each cluster, [M], none 0."""
    users = counts.labels() + _UNSEEN
    return users / users.sum()


def conditional(after: NDArray[np.float64], lower: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return P(c | x) = (n(x, c) + a P(c)) / (n(x) + a), [M, M], row x, with a CONCENTRATION.

    `after` [M, M] are the counts n(x, c), `lower` [M] is P(c).

    >>> conditional(np.array([[0, 50], [0, 0]]), np.array([0.5, 0.5]))
    array([[0.25, 0.75],
           [0.5 , 0.5 ]])
    """
    total = after.sum(axis=1, keepdims=True)
    return (after + CONCENTRATION * lower) / (total + CONCENTRATION)


def count_policies(
    counts: TransitionCounts, embeddings: NDArray[np.float32], blocked: NDArray[np.int32]
) -> dict[str, Policy]:
    """Fit the baselines that need only counts, or the embeddings [M, F] of the clusters, by name.

    - `popularity`: P(c);
    - `markov_1`: P(c | c2); `markov_2`: P(c | c1, c2) with back-off to it;
    - `naive_bayes`: P(c) P(c1 | c) P(c2 | c), with P(x | c) in proportion to P(c | x) / P(c);
    - `pair_counts`: n(c1, c2, c), equal counts by P(c);
    - `cluster_neighbours`: the mean cosine between the embedding of c and those of c1 and c2.
    """
    size = counts.clusters
    p = popularity(counts)
    log_p = np.log(p)
    older, newer = (conditional(counts.after(earlier), p) for earlier in (counts.c1, counts.c2))
    log_older, log_newer = np.log(older), np.log(newer)
    zeros = np.zeros((size, size))
    unit = unit_rows(embeddings, shortest=1e-12)
    cosine = unit.astype(np.float64) @ unit.astype(np.float64).T / 2

    def additive(
        older: NDArray[np.float64], newer: NDArray[np.float64], base: NDArray[np.float64]
    ) -> AdditivePolicy:
        single = np.float32
        return AdditivePolicy(
            older.astype(single), newer.astype(single), base.astype(single), blocked
        )

    pair = pair_index(counts.c1, counts.c2, size)
    pairs = scipy.sparse.csr_matrix(
        (counts.users.astype(np.float32), (pair, counts.novel)), (size * size, size)
    )
    ascending = np.argsort(-p, kind="stable")[::-1]  # equal ones by id, descending
    popularity_rank = np.empty(size, np.int32)
    popularity_rank[ascending] = np.arange(size)
    return {
        "popularity": additive(zeros, zeros, log_p),
        "markov_1": additive(zeros, log_newer, np.zeros(size)),
        "markov_2": SecondOrderPolicy(pairs, newer.astype(np.float32), blocked),
        "naive_bayes": additive(log_older, log_newer, -log_p),
        "pair_counts": PairCountPolicy(pairs, popularity_rank, blocked),
        "cluster_neighbours": additive(cosine, cosine, np.zeros(size)),
    }
