"""A small generative model of a user, fitted on a log, to compare policies.

The clock of a user is the number of engagements so far: logs come in bursts, and days without
engagements carry little information. Given a history, the model says which cluster the next
engagement is with:

- *Discovery.* With K clusters known, the next engagement opens a new one with probability h(K),
  estimated from the log. Novelties get rarer with the number of known clusters: Heaps' law (Tria,
  Loreto, Servedio & Strogatz, "The dynamics of correlated novelties", Scientific Reports 4, 2014).
- *Affinity.* The new cluster follows a softmax over the unknown clusters c of log popularity(c)
  plus b times the interest-weighted mean of log lift(k, c) over ALL known clusters k. Lift is how
  much more often users who know k open c than popularity predicts, shrunk to 1 where k is rare.
- *Drift.* The interest in a known cluster is the sum over its engagements of
  2^(-age / half life), in engagements (exponential forgetting: Koychev & Schwab, "Adaptation to
  drifting user's interests", ECML 2000 workshop). The half life is of maximum likelihood.
- *Satiation.* Interest is multiplied by a factor <= 1 that falls with the recent engagements with
  the cluster: observed over expected repeats, made non-increasing (Leqi et al., "Rebounding bandits
  for modeling satiation effects", NeurIPS 2021).

The state and its dynamics are those of simulators such as RecSim (Ie et al., arXiv 1909.04847).

A log does not show, and the model does not know: how often users refuse a shown cluster (the
simulation has an outside option with a given weight); the recommendations of that time (popularity
and discovery depend on them); tastes beyond the known clusters; why users leave. Compare one policy
with another; do not read absolute numbers.

`fit_user_model` fits the model on users on whom no policy was fitted, and on all known clusters,
while policies see the latest two: no policy is judged by itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FATIGUE_HALF_LIFE = 3.0  # in engagements
FATIGUE_EDGES = (0.25, 0.75, 1.5, 2.25, 3.0)  # of bins of recent engagements with a cluster

Floats = NDArray[np.float32]


@dataclass
class UserState:
    """The state of n users."""

    known: NDArray[np.bool_]  # [n, M]
    interest: Floats  # [n, M] decays with the half life of the model
    fatigue: Floats  # [n, M] recent engagements
    c1: NDArray[np.int32]  # [n] the cluster before c2; equal if only one is known, -1 if none
    c2: NDArray[np.int32]  # [n] the latest cluster

    @classmethod
    def empty(cls, users: int, size: int) -> "UserState":
        """Return the state of users without a history among `size` clusters."""
        shape = (users, size)
        nobody = np.full(users, -1, np.int32)
        return cls(
            np.zeros(shape, bool),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
            nobody,
            nobody.copy(),
        )

    def rows(self, part: slice = slice(None)) -> "UserState":
        """Return a copy of the state of some users, by default of all."""
        return UserState(**{name: array[part].copy() for name, array in vars(self).items()})

    def engage(
        self, clusters: NDArray[np.int32], engaged: NDArray[np.bool_], half_life: float
    ) -> None:
        """Add engagements with clusters [n, s] where `engaged` [n, s], the oldest first."""
        after = engaged[:, ::-1].cumsum(axis=1)[:, ::-1] - engaged  # engagements still to come
        count = engaged.sum(axis=1)
        row, slot = np.nonzero(engaged)
        cluster = clusters[row, slot]
        for kept, life in ((self.interest, half_life), (self.fatigue, _FATIGUE_HALF_LIFE)):
            kept *= np.exp2(-count / life).astype(np.float32)[:, None]
            np.add.at(kept, (row, cluster), np.exp2(-after[row, slot] / life).astype(np.float32))
        self.known[row, cluster] = True
        for column in range(clusters.shape[1]):
            switched = engaged[:, column] & (clusters[:, column] != self.c2)
            first = switched & (self.c2 < 0)  # the first cluster is both c1 and c2
            self.c1 = np.where(first, clusters[:, column], np.where(switched, self.c2, self.c1))
            self.c2 = np.where(switched, clusters[:, column], self.c2)


@dataclass(frozen=True)
class Histories:
    """The engagements of n users."""

    offsets: NDArray[np.int64]  # [n + 1] start of each user in `clusters`
    clusters: NDArray[np.int32]  # clusters of the engagements, the oldest first

    def steps(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.bool_]]]:
        """Yield the t-th cluster of every user and whether there is one, both [n, 1]."""
        lengths = np.diff(self.offsets)
        for step in range(int(lengths.max(initial=0))):
            there = lengths > step
            at = np.where(there, self.offsets[:-1] + step, 0)
            yield self.clusters[at][:, None], there[:, None]


@dataclass(frozen=True)
class UserModel:
    """The parameters of the model; see the module."""

    discovery: Floats  # [M + 1] share of engagements that open a cluster, by number of known ones
    log_popularity: Floats  # [M] of clusters at their discovery
    log_lift: Floats  # [M, M] from a known cluster to the next, times b
    half_life: float  # of interest, in engagements
    satiation: Floats  # [bins] factor by fatigue, from 1 downwards

    def state_of(self, histories: Histories) -> UserState:
        """Return the state of users after their histories."""
        state = UserState.empty(len(histories.offsets) - 1, len(self.log_popularity))
        for clusters, there in histories.steps():
            state.engage(clusters, there, self.half_life)
        return state

    def next_engagement(self, state: UserState) -> Floats:
        """Return the probability of each next cluster [n, M]; the sum is below 1 by satiation."""
        share = interest_shares(state)
        opened = self.discovery[state.known.sum(axis=1)][:, None]
        new = new_cluster(share @ self.log_lift + self.log_popularity, state.known)
        satiation = np.full_like(share, self.satiation[0])
        for edge, step in zip(FATIGUE_EDGES, np.diff(self.satiation), strict=True):
            if step:  # faster than a lookup by np.digitize
                satiation += step * (state.fatigue >= edge)
        return opened * new + (1 - opened) * share * satiation


def interest_shares(state: UserState) -> Floats:
    """Return the interest of users as shares, [n, M]; 0 for a user without any."""
    return state.interest / np.maximum(state.interest.sum(axis=1, keepdims=True), 1e-30)


def new_cluster(affinity: Floats, known: NDArray[np.bool_]) -> Floats:
    """Return the softmax of affinity [n, M] over the unknown clusters; 0 if all are known."""
    logits = np.where(known, -np.inf, affinity)
    top = np.max(logits, axis=1, keepdims=True)
    weights = np.exp(logits - np.where(np.isfinite(top), top, 0))
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-30)
