"""How much likelier an interest becomes after another one.

A transition names the two latest interests of a user. `count_follows` counts all earlier ones, with
less weight for each new interest in between, so that a user tells more about every pair of
clusters. Where there are few counts, the texts of the items decide.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.common.unit_vectors import unit_rows
from models.interests.pairs import pair_index

# An earlier interest counts 0.7 times as much for each new interest in between: chosen on the
# validation users of two logs of films, where 0.5 to 0.9 differ little.
DISCOUNT = 0.7
# Weights are whole multiples of this number, so that their sums do not depend on an order.
UNIT = 2.0**-16
_TINY = 1e-12
_FARTHEST = 16  # new interests in between, at most: the discount is then 1/300
# The power of the lifts in `FollowLift.probabilities`: two lifts overlap. Chosen with DISCOUNT; 0.6
# to 0.7 for each of the two logs.
_POWER = 0.7
# The prior: similar interests follow each other, e^2 times as often for the same text. It weighs as
# much as this many counts. Both were chosen with DISCOUNT.
_BACK_OFF = 200.0
_SIMILARITY = 2.0
# A broad interest follows all others about equally often: its lifts differ little, and it would be
# the first candidate of no pair. Lifts are divided by this power of their spread; 0.5 to 1 differ
# little in the recall on the two logs.
_EVENNESS = 0.75
_LEAST_SPREAD = 0.1  # of the mean spread, so that noise is not amplified


def count_follows(
    user: NDArray[np.int64], cluster: NDArray[np.int32], clusters: int
) -> NDArray[np.int64]:
    """Count how often each interest was taken up after each other one, [M, M] (earlier, later).

    `user` and `cluster` [n] are the interests of users in the order in which they took them up,
    each once; the rows of a user are adjacent. The counts are sums of
    DISCOUNT^(new interests in between), in multiples of UNIT.
    """
    follows = np.zeros(clusters * clusters, np.int64)
    for between in range(min(_FARTHEST + 1, len(user))):
        earlier, later = slice(None, -between - 1), slice(between + 1, None)
        same = user[earlier] == user[later]
        pair = pair_index(cluster[earlier][same], cluster[later][same], clusters)
        weight = round(DISCOUNT**between / UNIT)
        follows += weight * np.bincount(pair, minlength=len(follows))
    return follows.reshape(clusters, clusters)


def cosine_similarity(embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cosine between the embeddings [M, F] less their mean, [M, M]."""
    unit = unit_rows(embeddings.astype(np.float64), _TINY)
    apart = unit_rows(unit - unit.mean(axis=0), _TINY)
    return apart @ apart.T


@dataclass(frozen=True)
class FollowLift:
    """Scores each cluster as the next interest by how often it followed the two latest ones."""

    # [M, M] log of how many times likelier the later interest is after the earlier one than after
    # any, each column scaled to a more even spread.
    lift: NDArray[np.float64]

    @staticmethod
    def from_counts(follows: NDArray[np.int64], similarity: NDArray[np.float64]) -> "FollowLift":
        """Estimate the lifts from `count_follows` and `cosine_similarity`, both [M, M].

        With f the counts, p(c) the share of c among all that followed, s the cosine similarity,
        a the back-off and q(b, c) in proportion to p(c) exp(2 s(b, c)), the sum over c being 1:
        lift(b, c) = log((f(b, c) + a q(b, c)) / (f(b) + a)) - log p(c). With d(c) the standard
        deviation of lift(b, c) over all b except c, column c is scaled by (mean of d / d(c))^0.75.
        """
        counts = follows * UNIT
        share = (counts.sum(0) + 1) / (counts.sum() + len(counts))
        expected = share * np.exp(_SIMILARITY * similarity)
        expected /= expected.sum(axis=1, keepdims=True)
        given = (counts + _BACK_OFF * expected) / (counts.sum(1, keepdims=True) + _BACK_OFF)
        return FollowLift(_even_spread(np.log(given) - np.log(share)))

    def scores(self, c1: NDArray[np.int32], c2: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return lift(c1, c) + lift(c2, c), [n, M]; -inf for c1 and c2."""
        scores = (self.lift[c1] + self.lift[c2]).astype(np.float32)
        rows = np.arange(len(c1))
        scores[rows, c1] = scores[rows, c2] = -np.inf
        return scores

    def probabilities(self, c1: NDArray[np.int32], c2: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return the probability of each next interest if all were equally popular, [n, M]."""
        weight = np.exp(_POWER * self.scores(c1, c2).astype(np.float64))
        return weight / weight.sum(axis=1, keepdims=True)


def _even_spread(lift: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(lift) == 1:
        return lift
    spread = np.std(lift, axis=0, where=~np.eye(len(lift), dtype=bool))
    spread = np.maximum(spread, max(_LEAST_SPREAD * spread.mean(), _TINY))
    return lift * (spread.mean() / spread) ** _EVENNESS
