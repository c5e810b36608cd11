"""Policies on the transitions of test users, in Beam: sums by part of the users, added up."""

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from models.evaluation.bootstrap import poisson_weights
from models.evaluation.calibration import reliability_sums
from models.evaluation.rank_sums import SHOWN, RankSums, rank_sums
from models.evaluation.ranking import best, ranks
from transforms import files
from transforms import schemas as col
from transforms.held_out import Transitions, held_out_transitions
from transforms.policies import Policies, PolicySources, WithPolicies
from transforms.sharding import mix, stable_hash

RANKS, RELIABILITY, USERS = "ranks", "reliability", "users"
# Weights that popularity may have beside a table.
WEIGHTS = np.round(np.arange(0, 2.05, 0.1), 1)
_K = 5  # of the recall that chooses among them
_ROWS = 4096


class AddUp(beam.CombineFn):
    """Adds elements up with +; None for none."""

    def create_accumulator(self) -> Any:
        return None

    def add_input(self, accumulator: Any, element: Any) -> Any:
        return element if accumulator is None else accumulator + element

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        found = [one for one in accumulators if one is not None]
        return reduce(operator.add, found) if found else None

    def extract_output(self, accumulator: Any) -> Any:
        return accumulator


@dataclass(frozen=True)
class Resamples:
    """The bootstrap resamples of users.

    Attributes
    ----------
    count
        B, how many there are.
    seed
        Another one makes others.
    """

    count: int
    seed: int

    def weights(self, user_ids: pa.Array) -> np.ndarray:
        """Return how often users count in what was observed and in each, [users, 1 + B]."""
        users = stable_hash(user_ids, self.seed)[:, None]
        return poisson_weights(mix(users ^ mix(np.arange(self.count), 1)[None], self.seed))


@dataclass(eq=False)
class ScorePolicies(beam.PTransform):
    """SEQUENCES of test users -> sums of each policy, by the names of the outputs.

    RANKS are (policy, RankSums), RELIABILITY (table, ReliabilitySums); USERS is one number, that of
    the users with transitions.

    Attributes
    ----------
    sources
        The policies.
    catalogue
        A PCollection of one tuple, the ids and the clusters of the items.
    weight
        A PCollection of one number, the weight of popularity in the policy PRIOR.
    cut
        Transitions before it are not asked for; microseconds since 1970, or None.
    resamples
        Of the users.
    """

    sources: PolicySources
    catalogue: beam.PCollection
    weight: beam.PCollection
    cut: int | None
    resamples: Resamples

    def expand(self, sequences: beam.PCollection[pa.Table]) -> Any:
        scored = sequences | "Score" >> beam.ParDo(
            WithPolicies(self.sources, self._score),
            beam.pvalue.AsSingleton(self.catalogue),
            beam.pvalue.AsSingleton(self.weight),
        ).with_outputs(RELIABILITY, USERS, main=RANKS)
        return {
            name: scored[name] | f"Add-{name}" >> beam.CombinePerKey(AddUp())
            for name in (RANKS, RELIABILITY)
        } | {USERS: scored[USERS] | "Add-users" >> beam.CombineGlobally(sum)}

    def _score(
        self,
        policies: Policies,
        sequences: pa.Table,
        catalogue: tuple[pa.Array, np.ndarray],
        weight: float,
    ) -> Iterator[Any]:
        for some in held_out_transitions(sequences, catalogue[1], policies.size, self.cut):
            Metrics.counter("evaluate", "test_transitions").inc(len(some.user))
            yield beam.pvalue.TaggedOutput(USERS, len(some.user_ids))
            weights = self.resamples.weights(some.user_ids)
            for name, policy in policies.by_name(weight).items():
                scores = policy.scores(some.c1, some.c2)
                yield name, sums_of(some, weights, scores)
            for name, table in policies.tables.items():
                pair = some.c1.astype(np.int64) * policies.size + some.c2
                sums = reliability_sums(table.novel[pair], table.probability[pair], some.novel)
                yield beam.pvalue.TaggedOutput(RELIABILITY, (name, sums))


def sums_of(some: Transitions, weights: np.ndarray, scores: np.ndarray) -> RankSums:
    """Add up how scores [n, M] rank transitions; `weights` as of `Resamples`."""
    size = scores.shape[1]
    shown = best(scores, min(SHOWN, size))
    rank = ranks(scores, some.novel)
    known = some.known(shown)
    return rank_sums(weights, some.user, some.novel, rank, shown, known, shown[:, 0], size)


@dataclass(eq=False)
class ChoosePriorWeight(beam.PTransform):
    """Chooses the weight of popularity by recall@5 on the valid users; a single number.

    Of weights with equal recall it is the smallest.

    Attributes
    ----------
    sources
        The policies.
    """

    sources: PolicySources

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[float]:
        paths = files.list_files(
            files.join(self.sources.transitions, "examples", "valid", "*.parquet")
        )
        return (
            begin
            | "Valid" >> beam.Create(paths)
            | "Hits" >> beam.ParDo(WithPolicies(self.sources, hits_by_weight))
            | "Add" >> beam.CombineGlobally(AddUp())
            | "Choose" >> beam.Map(choose_weight)
        )


def hits_by_weight(policies: Policies, path: str) -> Iterator[np.ndarray]:
    """Count the EXAMPLES of a file that are among the first five, for each of WEIGHTS."""
    with files.open_file(path) as file:
        for batch in pq.ParquetFile(file).iter_batches(_ROWS, columns=[col.C1, col.C2, col.NOVEL]):
            c1, c2, novel = (batch.column(name).to_numpy() for name in (col.C1, col.C2, col.NOVEL))
            hits = [
                np.sum(ranks(policies.prior(weight).scores(c1, c2), novel) < _K)
                for weight in WEIGHTS.tolist()
            ]
            yield np.array(hits, np.int64)


def choose_weight(hits: np.ndarray | None) -> float:
    """Return the first weight with the most hits; 0 where there is nothing to choose by."""
    return 0.0 if hits is None else float(WEIGHTS[np.argmax(hits)])


@dataclass(eq=False)
class CoverPairs(beam.PTransform):
    """Finds which clusters each policy ranks first for some pair: (policy, [M] bool), exactly.

    Attributes
    ----------
    sources
        The policies.
    size
        Clusters there are, M: all M x M pairs are asked.
    weight
        As of ScorePolicies.
    """

    sources: PolicySources
    size: int
    weight: beam.PCollection

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[tuple[str, np.ndarray]]:
        return (
            begin
            | "Older" >> beam.Create(range(self.size))
            | "Win"
            >> beam.ParDo(
                WithPolicies(self.sources, _winners), beam.pvalue.AsSingleton(self.weight)
            )
            | "Any" >> beam.CombinePerKey(AddUp())
        )


def _winners(policies: Policies, older: int, weight: float) -> Iterator[tuple[str, np.ndarray]]:
    c2 = np.arange(policies.size, dtype=np.int32)
    for name, policy in policies.by_name(weight).items():
        first = best(policy.scores(np.full_like(c2, older), c2), 1)[:, 0]
        wins = np.zeros(policies.size, bool)
        wins[first[first >= 0]] = True
        yield name, wins
