"""A small generative model of a user, fitted on a log, to try policies on.

The clock of a user is the number of engagements so far: logs come in bursts, and days without any
say little. Given a history, the model says which cluster the next engagement is with:

- *Discovery.* With K clusters known, the next engagement opens a new one with probability h(K), a
  share of engagements in the log. That novelties get rarer with what is known is Heaps' law (Tria,
  Loreto, Servedio & Strogatz, "The dynamics of correlated novelties", Scientific Reports 4, 2014).
- *Affinity.* Which new one: a softmax over the unknown clusters c of log popularity(c) + b times
  the mean over ALL known clusters k, weighted by interest, of log lift(k, c): how much more often c
  was opened by users who know k than its popularity predicts, shrunk to none where k is rare.
- *Drift.* The interest in a known cluster is the sum over the engagements with it of 2^(-age /
  half life), in engagements (exponential forgetting: Koychev & Schwab, "Adaptation to drifting
  user's interests", ECML 2000 workshop). The half life is of maximum likelihood.
- *Satiation.* Interest times a factor <= 1 that falls with the engagements with the cluster among
  the latest few: observed over expected repeats, made to fall (Leqi et al., "Rebounding bandits
  for modeling satiation effects", NeurIPS 2021).

The state and its dynamics are those of simulators such as RecSim (Ie et al., arXiv 1909.04847).

What a log can't tell, so that the model doesn't know it either: how often a shown cluster is
refused, as only engagements are logged (the simulation takes an outside option of a stated weight);
what the recommender of that time showed, so that popularity and discovery are those of its users;
the tastes of a user beyond the known clusters; what makes a user leave. Absolute numbers are of the
model; what can be compared is one policy with another.

So that no policy is judged by itself, the model is fitted on users that policies were not fitted
on, and on all known clusters, where policies look at the latest two.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FATIGUE_HALF_LIFE = 3.0  # "the latest few" engagements
FATIGUE_EDGES = (0.25, 0.75, 1.5, 2.25, 3.0)  # between bins of recent engagements with a cluster

Floats = NDArray[np.float32]


@dataclass
class UserState:
    """What users know, at some moment.

    Attributes
    ----------
    known
        [n, M] bool.
    interest
        [n, M] float32, forgotten with the half life of the model.
    fatigue
        [n, M] float32, the engagements among the latest few.
    c1, c2
        [n] int32, the clusters of the two latest runs; equal where one is known, -1 where none.
    """

    known: NDArray[np.bool_]
    interest: Floats
    fatigue: Floats
    c1: NDArray[np.int32]
    c2: NDArray[np.int32]

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

    def copy(self) -> "UserState":
        """Return one that does not change with this one."""
        return UserState(**{name: array.copy() for name, array in vars(self).items()})

    def rows(self, rows: slice) -> "UserState":
        """Return the state of some users, a copy."""
        return UserState(**{name: array[rows].copy() for name, array in vars(self).items()})

    def engage(
        self, clusters: NDArray[np.int32], engaged: NDArray[np.bool_], half_life: float
    ) -> None:
        """Add engagements, the oldest first.

        Parameters
        ----------
        clusters
            [n, s]
        engaged
            [n, s], whether they happened.
        half_life
            Of interest, in engagements.
        """
        after = engaged[:, ::-1].cumsum(axis=1)[:, ::-1] - engaged  # engagements still to come
        count = engaged.sum(axis=1)
        row, slot = np.nonzero(engaged)
        cluster = clusters[row, slot]
        for kept, life in ((self.interest, half_life), (self.fatigue, _FATIGUE_HALF_LIFE)):
            kept *= np.exp2(-count / life).astype(np.float32)[:, None]
            np.add.at(kept, (row, cluster), np.exp2(-after[row, slot] / life).astype(np.float32))
        self.known[row, cluster] = True
        for column in range(clusters.shape[1]):
            new = engaged[:, column] & (clusters[:, column] != self.c2)
            first = new & (self.c2 < 0)
            self.c1 = np.where(first, clusters[:, column], np.where(new, self.c2, self.c1))
            self.c2 = np.where(new, clusters[:, column], self.c2)


@dataclass(frozen=True)
class Histories:
    """What users engaged with.

    Attributes
    ----------
    offsets
        [n + 1], where the clusters of each user begin.
    clusters
        [offsets[-1]] int32, the clusters of their engagements, the oldest first.
    """

    offsets: NDArray[np.int64]
    clusters: NDArray[np.int32]

    def steps(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.bool_]]]:
        """Yield the t-th engagement of every user: its cluster and whether there is one, [n, 1]."""
        lengths = np.diff(self.offsets)
        for step in range(int(lengths.max(initial=0))):
            there = lengths > step
            at = np.where(there, self.offsets[:-1] + step, 0)
            yield self.clusters[at][:, None], there[:, None]


@dataclass(frozen=True)
class UserModel:
    """How users choose; see the module.

    Attributes
    ----------
    discovery
        [M + 1], the share of engagements that open a cluster, by how many are known.
    log_popularity
        [M] of clusters at their discovery.
    log_lift
        [M, M], from a known cluster to the one it leads to, times b.
    half_life
        Of interest, in engagements.
    satiation
        [bins], the factor by fatigue; falls from 1.
    """

    discovery: Floats
    log_popularity: Floats
    log_lift: Floats
    half_life: float
    satiation: Floats

    def state_of(self, histories: Histories) -> UserState:
        """Return the state of users after their histories."""
        state = UserState.empty(len(histories.offsets) - 1, len(self.log_popularity))
        for clusters, there in histories.steps():
            state.engage(clusters, there, self.half_life)
        return state

    def next_engagement(self, state: UserState) -> Floats:
        """Return the probability that the next engagement is with each cluster.

        Returns
        -------
        [n, M]; the rest to 1 is what satiation takes away.
        """
        share = interest_shares(state)
        opened = self.discovery[state.known.sum(axis=1)][:, None]
        new = new_cluster(share @ self.log_lift + self.log_popularity, state.known)
        tired = np.full_like(share, self.satiation[0])
        for edge, step in zip(FATIGUE_EDGES, np.diff(self.satiation), strict=True):
            if step:
                tired += step * (state.fatigue >= edge)
        return opened * new + (1 - opened) * share * tired


def interest_shares(state: UserState) -> Floats:
    """Return the interest of users as shares, [n, M]; 0 for a user without any."""
    return state.interest / np.maximum(state.interest.sum(axis=1, keepdims=True), 1e-30)


def new_cluster(affinity: Floats, known: NDArray[np.bool_]) -> Floats:
    """Return the softmax of affinity [n, M] over what is not known, 0 where all is."""
    logits = np.where(known, -np.inf, affinity)
    top = np.max(logits, axis=1, keepdims=True)
    weights = np.exp(logits - np.where(np.isfinite(top), top, 0))
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-30)
