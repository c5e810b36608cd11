"""Baselines fitted on counts of transitions: what exploring without an LLM would show.

Every conditional probability backs off to the lower order with a Dirichlet prior (MacKay & Peto,
"A hierarchical Dirichlet language model", 1995): P(c | x) = (n(x, c) + a P(c)) / (n(x) + a), where
a is the number of users that the lower order counts for.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from models.common.unit_vectors import unit_rows
from models.evaluation.policies.policy import Policy

# Users that the lower order counts for. Of 5, 20, 50, 100 and 200, on the valid users of
# ml-latest-small and movietweetings-100k with 48 clusters, only markov_2 depends on it: its
# recall@5 is .207, .211, .221, .217, .214 and .212, .215, .223, .229, .232.
CONCENTRATION = 50.0
_UNSEEN = 1.0  # user added to the count of each cluster: what was never novel can still be


@dataclass(frozen=True)
class TransitionCounts:
    """How many users made each transition.

    Attributes
    ----------
    c1, c2, novel
        [rows] int32
    users
        [rows] int64, at least 1.
    clusters
        Their number, M.
    """

    c1: NDArray[np.int32]
    c2: NDArray[np.int32]
    novel: NDArray[np.int32]
    users: NDArray[np.int64]
    clusters: int

    def labels(self) -> NDArray[np.int64]:
        """Return how many users took each cluster up, [M]."""
        return np.bincount(self.novel, self.users, self.clusters).astype(np.int64)

    def after(self, earlier: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return how many users went from each interest to each cluster, [M, M].

        Parameters
        ----------
        earlier
            [rows] the interest, c1 or c2.
        """
        key = earlier.astype(np.int64) * self.clusters + self.novel
        counted = np.bincount(key, self.users, self.clusters**2).astype(np.float64)
        return counted.reshape(self.clusters, self.clusters)


@dataclass(frozen=True)
class AdditivePolicy:
    """Scores that each interest adds to: older[c1] + newer[c2] + base.

    Attributes
    ----------
    older, newer
        [M, M] float32, row c1 or c2.
    base
        [M] float32
    blocked
        [blocked] clusters that are never an answer.
    """

    older: NDArray[np.float32]
    newer: NDArray[np.float32]
    base: NDArray[np.float32]
    blocked: NDArray[np.int32]

    def scores(self, c1: NDArray[np.int32], c2: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score the clusters, as `Policy.scores`."""
        return without(self.older[c1] + self.newer[c2] + self.base, c1, c2, self.blocked)


@dataclass(frozen=True)
class SecondOrderPolicy:
    """Second-order Markov: log P(c | c1, c2), which backs off to the first order.

    Attributes
    ----------
    pairs
        [M * M, M] float32, users that went from pair c1 * M + c2 to each cluster.
    first_order
        [M, M] float32, P(c | c2).
    blocked
        [blocked] clusters that are never an answer.
    """

    pairs: scipy.sparse.csr_matrix
    first_order: NDArray[np.float32]
    blocked: NDArray[np.int32]

    def scores(self, c1: NDArray[np.int32], c2: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score the clusters, as `Policy.scores`."""
        counted = _rows(self.pairs, c1, c2)
        total = counted.sum(axis=1, keepdims=True) + CONCENTRATION
        p = (counted + CONCENTRATION * self.first_order[c2]) / total
        return without(np.log(p), c1, c2, self.blocked)


@dataclass(frozen=True)
class PairCountPolicy:
    """The clusters that most users of a pair went to; popularity decides between equal counts.

    Attributes
    ----------
    pairs
        As `SecondOrderPolicy`, of whole numbers.
    place
        [M] int32, place of each cluster by popularity, 0 the least popular.
    blocked
        [blocked] clusters that are never an answer.
    """

    pairs: scipy.sparse.csr_matrix
    place: NDArray[np.int32]
    blocked: NDArray[np.int32]

    def scores(self, c1: NDArray[np.int32], c2: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score the clusters by their place among those of the pair, as `Policy.scores`."""
        size = len(self.place)
        key = _rows(self.pairs, c1, c2).astype(np.int64) * size + self.place
        # Places are exact in 32 bits, counts of many users and their tie-break are not.
        place = np.empty(key.shape, np.float32)
        np.put_along_axis(place, np.argsort(key, axis=1), np.arange(size, dtype=np.float32), 1)
        return without(place, c1, c2, self.blocked)


def _rows(
    pairs: scipy.sparse.csr_matrix, c1: NDArray[np.int32], c2: NDArray[np.int32]
) -> NDArray[np.float32]:
    return pairs[c1.astype(np.int64) * pairs.shape[1] + c2].toarray()


def without(
    scores: NDArray[np.float32],
    c1: NDArray[np.int32],
    c2: NDArray[np.int32],
    blocked: NDArray[np.int32],
) -> NDArray[np.float32]:
    """Take the clusters that may not be an answer out of scores [n, M], in place."""
    rows = np.arange(len(scores))
    scores[rows, c1] = scores[rows, c2] = -np.inf
    scores[:, blocked] = -np.inf
    return scores


def popularity(counts: TransitionCounts) -> NDArray[np.float64]:
    """Return P(c), the share of transitions to each cluster, [M], none 0."""
    users = counts.labels() + _UNSEEN
    return users / users.sum()


def conditional(
    after: NDArray[np.float64], lower: NDArray[np.float64], concentration: float = CONCENTRATION
) -> NDArray[np.float64]:
    """Return P(c | x) = (n(x, c) + a P(c)) / (n(x) + a), [M, M].

    Parameters
    ----------
    after
        [M, M] counts n(x, c), row x.
    lower
        [M] P(c).
    concentration
        a.

    Examples
    --------
    >>> conditional(np.array([[0, 6], [0, 0]]), np.array([0.5, 0.5]), 2)
    array([[0.125, 0.875],
           [0.5  , 0.5  ]])
    """
    total = after.sum(axis=1, keepdims=True)
    return (after + concentration * lower) / (total + concentration)


def count_policies(
    counts: TransitionCounts, embeddings: NDArray[np.float32], blocked: NDArray[np.int32]
) -> dict[str, Policy]:
    """Fit all baselines that need counts, or the clusters' embeddings, and no training.

    - `popularity`: P(c);
    - `markov_1`: P(c | c2); `markov_2`: P(c | c1, c2) with back-off to it;
    - `naive_bayes`: P(c) P(c1 | c) P(c2 | c), with P(x | c) in proportion to P(c | x) / P(c);
    - `pair_counts`: n(c1, c2, c), equal counts by P(c);
    - `cluster_neighbours`: the mean cosine between the embedding of c and those of c1 and c2.

    Parameters
    ----------
    counts
        Of the training users' transitions before the cut.
    embeddings
        [M, F] of the clusters.
    blocked
        [blocked] clusters that are never an answer.

    Returns
    -------
    Policies by name.
    """
    size = counts.clusters
    p = popularity(counts)
    log_p = np.log(p)
    older, newer = (conditional(counts.after(earlier), p) for earlier in (counts.c1, counts.c2))
    log_older, log_newer = np.log(older), np.log(newer)
    nothing = np.zeros((size, size))
    unit = unit_rows(embeddings, shortest=1e-12)
    cosine = unit.astype(np.float64) @ unit.astype(np.float64).T / 2

    def additive(
        older: NDArray[np.float64], newer: NDArray[np.float64], base: NDArray[np.float64]
    ) -> AdditivePolicy:
        single = np.float32
        return AdditivePolicy(
            older.astype(single), newer.astype(single), base.astype(single), blocked
        )

    pair = counts.c1.astype(np.int64) * size + counts.c2
    pairs = scipy.sparse.csr_matrix(
        (counts.users.astype(np.float32), (pair, counts.novel)), (size * size, size)
    )
    by_popularity = np.argsort(-p, kind="stable")[::-1]  # ascending, equal ones by id descending
    place = np.empty(size, np.int32)
    place[by_popularity] = np.arange(size)
    return {
        "popularity": additive(nothing, nothing, log_p),
        "markov_1": additive(nothing, log_newer, np.zeros(size)),
        "markov_2": SecondOrderPolicy(pairs, newer.astype(np.float32), blocked),
        "naive_bayes": additive(log_older, log_newer, -log_p),
        "pair_counts": PairCountPolicy(pairs, place, blocked),
        "cluster_neighbours": additive(cosine, cosine, np.zeros(size)),
    }
