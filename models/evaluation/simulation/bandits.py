"""Policies that learn from engagements, day by day.

They are the baselines of the paper's live experiments (arXiv 2405.16363), at the size of a
simulation:

- a *hierarchical contextual bandit*: a linear bandit at every node of the tree of clusters chooses
  a cluster from coarse to fine; all nodes on the path learn from the engagement (Song et al.,
  "Show me the whole world", WSDM 2022, arXiv 2110.09905);
- a *neural linear bandit*: Bayesian linear regression on a learned representation, here the text
  embeddings of the clusters (Riquelme, Tucker & Snoek, "Deep Bayesian bandits showdown", ICLR
  2018, arXiv 1802.09127; Su et al., "Long-term value of exploration", WSDM 2024, arXiv
  2305.07764).

Both use Thompson sampling: they draw the score of each user from the posterior of the reward, so
that a day's batch of users tries many clusters (Chapelle & Li, "An empirical evaluation of Thompson
sampling", NeurIPS 2011). They start without knowledge of users. The context of a user is (c1, c2),
as for the other policies.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.common.unit_vectors import unit_rows

_PRECISION = 1.0  # prior precision of a weight, in observations of a unit feature
_NOISE = 0.05  # prior variance of a reward
_NOISE_COUNT = 100.0  # rewards that the prior counts for
_QUANTA = 52  # bits that a float64 holds exactly

Ids = NDArray[np.int32]


class Scorer(Protocol):
    """A `Policy` with scores of any precision."""

    def scores(self, c1: Ids, c2: Ids) -> NDArray[Any]:
        """Score every cluster [n, M] for users with the latest interests c1 and c2 [n]."""


@runtime_checkable
class Learner(Scorer, Protocol):
    """A policy that learns and samples, and so needs all users of a day at once."""

    def learn(self, c1: Ids, c2: Ids, shown: Ids, engaged: NDArray[np.bool_]) -> None:
        """Learn from a day: `shown` [n] to users of c1, c2 [n], and who `engaged` [n]."""


@dataclass(frozen=True)
class Arms:
    """The M clusters to choose from."""

    # [levels, M] ancestor node per level, coarse to fine; the last row is the clusters
    ancestors: NDArray[np.int32]
    embeddings: NDArray[np.float32]  # [M, d]

    def reduced(self, dimensions: int) -> NDArray[np.float32]:
        """Return the embeddings on their principal axes, unit length, [M, <= dimensions]."""
        centred = self.embeddings - self.embeddings.mean(axis=0)
        axes = np.linalg.svd(centred, full_matrices=False)[2][:dimensions]
        return unit_rows(centred @ axes.T, shortest=1e-12)


class Random:
    """Random scores for every user and day."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._rng = size, np.random.default_rng(seed)

    def scores(self, c1: Ids, c2: Ids) -> NDArray[Any]:
        """Return uniform scores."""
        return self._rng.random((len(c1), self._size), np.float32)


class RewardNoise:
    """The standard deviation of rewards, with a prior."""

    def __init__(self) -> None:
        self._squares, self._count = _NOISE * _NOISE_COUNT, _NOISE_COUNT

    def learn(self, rewards: NDArray, predicted: NDArray) -> None:
        """Add rewards and their predictions."""
        self._squares += float(np.sum((rewards - predicted) ** 2))
        self._count += len(rewards)

    @property
    def deviation(self) -> float:
        """Standard deviation of a reward."""
        return float(np.sqrt(self._squares / self._count))


class HierarchicalBandit:
    """A linear Thompson bandit at every node of the tree.

    The reward of node v in context x is x . w_v plus noise. The posterior of w_v is normal with
    precision A_v = I + sum x x' and mean A_v^-1 sum r x (Agrawal & Goyal, ICML 2013). x is a
    constant and the mean of the embeddings of c1 and c2, reduced to `dimensions`.
    """

    def __init__(self, arms: Arms, seed: int, dimensions: int = 6) -> None:
        self._rng = np.random.default_rng(seed)
        places = arms.reduced(dimensions)
        self._places = np.hstack([np.ones((len(places), 1)), places]).astype(np.float32)
        sizes = arms.ancestors.max(axis=1) + 1
        starts = np.append(0, np.cumsum(sizes)[:-1])
        self._nodes = arms.ancestors + starts[:, None]  # [levels, M], over all levels
        features = self._places.shape[1]
        self._precision = np.tile(np.eye(features) * _PRECISION, (int(sizes.sum()), 1, 1))
        self._rewards = np.zeros((int(sizes.sum()), features))
        self._noise = RewardNoise()

    def _context(self, c1: Ids, c2: Ids) -> NDArray[np.float32]:
        return (self._places[c1] + self._places[c2]) * np.float32(0.5)

    def _mean(self) -> NDArray[Any]:
        """Return the mean weights of the nodes, [nodes, features]."""
        return np.linalg.solve(self._precision, self._rewards[..., None])[..., 0]

    def scores(self, c1: Ids, c2: Ids) -> NDArray[Any]:
        """Return scores that order clusters by the draws from the coarsest node to the finest."""
        context = self._context(c1, c2)
        mean = context @ self._mean().astype(np.float32).T  # [n, nodes]
        spread = np.linalg.cholesky(np.linalg.inv(self._precision)).astype(np.float32)
        flat = context @ spread.transpose(1, 0, 2).reshape(context.shape[1], -1)
        parts = flat.reshape(len(context), len(spread), -1)
        deviation = self._noise.deviation * np.sqrt(np.einsum("uvf,uvf->uv", parts, parts))
        drawn = mean + deviation * self._rng.standard_normal(mean.shape, np.float32)
        low, high = drawn.min(initial=0), drawn.max(initial=1e-6)
        steps = 1 << (_QUANTA // len(self._nodes))
        whole = np.floor((drawn - low) / (high - low) * np.float32(steps - 1)).astype(np.float64)
        result = np.zeros((len(context), self._nodes.shape[1]))
        for level in self._nodes:
            result = result * steps + whole[:, level]
        return result

    def learn(self, c1: Ids, c2: Ids, shown: Ids, engaged: NDArray[np.bool_]) -> None:
        """Update every node above each shown cluster."""
        context = self._context(c1, c2).astype(np.float64)
        mean = self._mean()
        reward = engaged.astype(np.float64)
        self._noise.learn(reward, np.sum(context * mean[self._nodes[-1][shown]], axis=1))
        for level in self._nodes:
            node = level[shown]
            order = np.argsort(node, kind="stable")
            starts = np.flatnonzero(np.diff(node[order], prepend=-1))
            for rows in np.split(order, starts[1:]) if len(order) else ():
                x = context[rows]
                self._precision[node[rows[0]]] += x.T @ x
                self._rewards[node[rows[0]]] += reward[rows] @ x


class NeuralLinearBandit:
    """Thompson sampling of one Bayesian linear regression over all clusters.

    The features of showing c to a user of (c1, c2) are 1, the embedding of c (reduced to
    `dimensions`), its coordinate-wise product with the mean of those of c1 and c2, and the
    similarities of c with c1 and with c2.
    """

    def __init__(self, arms: Arms, seed: int, dimensions: int = 16) -> None:
        self._rng = np.random.default_rng(seed)
        self._places = arms.reduced(dimensions).astype(np.float32)
        self._similar = self._places @ self._places.T
        features = 3 + 2 * self._places.shape[1]
        self._precision = np.eye(features) * _PRECISION
        self._rewards = np.zeros(features)
        self._noise = RewardNoise()

    def scores(self, c1: Ids, c2: Ids) -> NDArray[Any]:
        """Return the reward of every cluster, with weights drawn for each user."""
        mean = np.linalg.solve(self._precision, self._rewards)
        # With A = L L', L'^-1 z has the covariance A^-1.
        root = self._noise.deviation * np.linalg.inv(np.linalg.cholesky(self._precision))
        normal = self._rng.standard_normal((len(c1), len(mean)), np.float32)
        weights = mean.astype(np.float32) + normal @ root.astype(np.float32)
        own, crossed = np.split(weights[:, 3:], 2, axis=1)
        context = (self._places[c1] + self._places[c2]) / 2
        return (
            weights[:, :1]
            + weights[:, 1:2] * self._similar[c1]
            + weights[:, 2:3] * self._similar[c2]
            + (own + crossed * context) @ self._places.T
        )

    def features(self, c1: Ids, c2: Ids, shown: Ids) -> NDArray[np.float64]:
        """Return the features of shown clusters, [n, features]."""
        place = self._places[shown]
        context = (self._places[c1] + self._places[c2]) / 2
        similar = [self._similar[c1, shown], self._similar[c2, shown]]
        columns = np.column_stack([np.ones(len(shown)), *similar, place, place * context])
        return columns.astype(np.float64)

    def learn(self, c1: Ids, c2: Ids, shown: Ids, engaged: NDArray[np.bool_]) -> None:
        """Add a day to the regression."""
        x, reward = self.features(c1, c2, shown), engaged.astype(np.float64)
        self._noise.learn(reward, x @ np.linalg.solve(self._precision, self._rewards))
        self._precision += x.T @ x
        self._rewards += reward @ x
