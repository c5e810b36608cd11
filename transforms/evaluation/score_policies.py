"""Scores policies on the transitions of test users: sums over parts of the users, added up.

Policies rank only the clusters that are new to the user, as in serving.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics

from models.evaluation.statistics.bootstrap import poisson_weights
from models.evaluation.statistics.calibration import reliability_sums
from models.evaluation.statistics.ranking import best, ranks
from models.evaluation.statistics.ranking_statistics import SHOWN, RankSums, rank_sums
from transforms.evaluation.held_out_transitions import Transitions, held_out_transitions
from transforms.evaluation.load_policies import Policies, PolicySources, WithPolicies
from transforms.tables.combiners import SumFn
from transforms.tables.sharding import mix, stable_hash

RANKS, RELIABILITY, USERS = "ranks", "reliability", "users"
WEIGHTS = np.round(np.arange(0, 2.05, 0.1), 1)  # candidate weights of popularity in PRIOR
_K = 5  # of the recall that chooses the weight


@dataclass(frozen=True)
class Resamples:
    """B = `count` bootstrap resamples of users."""

    count: int
    seed: int

    def weights(self, user_ids: pa.Array) -> np.ndarray:
        """Return how often users count, observed and in each resample, [users, 1 + B]."""
        users = stable_hash(user_ids, self.seed)[:, None]
        return poisson_weights(mix(users ^ mix(np.arange(self.count), 1)[None], self.seed))


@dataclass(eq=False)
class ScorePolicies(beam.PTransform):
    """SEQUENCES of test users -> RANKS, RELIABILITY and USERS.

    RANKS are (policy, RankSums), RELIABILITY (table, ReliabilitySums), USERS is the number of users
    with transitions.
    """

    sources: PolicySources
    item_clusters: beam.PCollection  # of one tuple: the ids and the clusters of the items
    weight: beam.PCollection  # of one number: the weight of popularity in PRIOR
    cut: int | None  # start of the evaluated transitions, microseconds since 1970
    resamples: Resamples

    def expand(self, sequences: beam.PCollection[pa.Table]) -> Any:
        scored = sequences | "Score" >> beam.ParDo(
            WithPolicies(self.sources, self._score),
            beam.pvalue.AsSingleton(self.item_clusters),
            beam.pvalue.AsSingleton(self.weight),
        ).with_outputs(RELIABILITY, USERS, main=RANKS)
        return {
            name: scored[name] | f"Add-{name}" >> beam.CombinePerKey(SumFn())
            for name in (RANKS, RELIABILITY)
        } | {USERS: scored[USERS] | "Add-users" >> beam.CombineGlobally(SumFn(int))}

    def _score(
        self,
        policies: Policies,
        sequences: pa.Table,
        item_clusters: tuple[pa.Array, np.ndarray],
        weight: float,
    ) -> Iterator[Any]:
        for some in held_out_transitions(sequences, item_clusters[1], policies.size, self.cut):
            Metrics.counter(ScorePolicies, "test_transitions").inc(len(some.user))
            yield beam.pvalue.TaggedOutput(USERS, len(some.user_ids))
            weights, known = self.resamples.weights(some.user_ids), some.known()
            scores_of = {
                name: policy.scores(some.c1, some.c2)
                for name, policy in policies.by_name(weight).items()
            } | {name: policy.scores(some.recent) for name, policy in policies.pooled.items()}
            for name, scores in scores_of.items():
                yield name, sums_of_scores(scores, known, some.novel, some.user, weights)
            for name, policy in policies.tables.items():
                table, pair = policy.table, (some.c1, some.c2)
                sums = reliability_sums(table.novel[pair], table.probability[pair], some.novel)
                yield beam.pvalue.TaggedOutput(RELIABILITY, (name, sums))


def sums_of_scores(
    scores: np.ndarray,
    known: np.ndarray,
    novel: np.ndarray,
    user: np.ndarray,
    weights: np.ndarray,
) -> RankSums:
    """Add up how a policy ranks the clusters that are new to users.

    `scores` [n, M] are of `Policy.scores`; `known` [n, M] are excluded; see `rank_sums`.
    """
    scores = without_known(scores, known)
    shown = best(scores, min(SHOWN, scores.shape[1]))
    return rank_sums(weights, user, novel, ranks(scores, novel), shown, known)


def without_known(scores: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return scores [n, M] with -inf for known clusters."""
    return np.where(known, scores.dtype.type(-np.inf), scores)


@dataclass(eq=False)
class ChoosePriorWeight(beam.PTransform):
    """SEQUENCES of valid users -> the smallest weight of popularity with the best recall@5."""

    sources: PolicySources
    item_clusters: beam.PCollection
    cut: int | None

    def expand(self, sequences: beam.PCollection[pa.Table]) -> beam.PCollection[float]:
        return (
            sequences
            | "Hits"
            >> beam.ParDo(
                WithPolicies(self.sources, self._hits), beam.pvalue.AsSingleton(self.item_clusters)
            )
            | "Add" >> beam.CombineGlobally(SumFn())
            | "Choose" >> beam.Map(choose_weight)
        )

    def _hits(
        self, policies: Policies, sequences: pa.Table, item_clusters: tuple[pa.Array, np.ndarray]
    ) -> Iterator[np.ndarray]:
        for some in held_out_transitions(sequences, item_clusters[1], policies.size, self.cut):
            yield hits_by_weight(policies, some)


def hits_by_weight(policies: Policies, some: Transitions) -> np.ndarray:
    """Count the transitions with a rank below 5, for each of WEIGHTS."""
    known = some.known()
    hits = []
    for weight in WEIGHTS.tolist():
        scores = without_known(policies.prior(weight).scores(some.c1, some.c2), known)
        hits.append(np.sum(ranks(scores, some.novel) < _K))
    return np.array(hits, np.int64)


def choose_weight(hits: np.ndarray | None) -> float:
    """Return the first weight with the most hits; 0 without transitions."""
    return 0.0 if hits is None else float(WEIGHTS[np.argmax(hits)])


@dataclass(eq=False)
class CoverPairs(beam.PTransform):
    """All M x M pairs -> (policy, [M] whether a cluster ranks first for some pair)."""

    sources: PolicySources
    size: int  # M
    weight: beam.PCollection

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[tuple[str, np.ndarray]]:
        return (
            begin
            | "Older" >> beam.Create(range(self.size))
            | "Win"
            >> beam.ParDo(
                WithPolicies(self.sources, _winners), beam.pvalue.AsSingleton(self.weight)
            )
            | "Any" >> beam.CombinePerKey(SumFn())
        )


def _winners(policies: Policies, older: int, weight: float) -> Iterator[tuple[str, np.ndarray]]:
    c2 = np.arange(policies.size, dtype=np.int32)
    for name, policy in policies.by_name(weight).items():
        first = best(policy.scores(np.full_like(c2, older), c2), 1)[:, 0]
        wins = np.zeros(policies.size, bool)
        wins[first[first >= 0]] = True
        yield name, wins
