"""The policies of an evaluation, as workers load them from the workspace."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.utils.shared import Shared
from numpy.typing import NDArray

from models.evaluation.policies.count_policies import (
    TransitionCounts,
    count_policies,
    popularity,
    without,
)
from models.evaluation.policies.policy import Policy
from models.evaluation.policies.policy_names import AFFINITY, AFFINITY_POOLED, POOLED, PRIOR, TABLE
from models.evaluation.policies.pooled_policy import PooledAffinity, PooledPolicy
from models.evaluation.policies.table_policy import PriorPolicy, TablePolicy
from models.interests.log_odds import evidence
from transforms import schemas as col
from transforms.clusters.read_clusters import read_cluster_embeddings, read_descriptions
from transforms.language.build_novelty_table import pack_table
from transforms.storage import files
from transforms.transitions.follow_counts import read_affinity


@dataclass(frozen=True)
class PolicySources:
    """Where policies are read from.

    Attributes
    ----------
    clusters, level
        Folder of the clusters, and the level of the tree that all is about.
    transitions
        Folder of the transitions.
    tables
        (name, folder) of novelty tables, ours first, by the name TABLE.
    blocked
        Clusters that are never an answer.
    """

    clusters: str
    level: int
    transitions: str
    tables: tuple[tuple[str, str], ...]
    blocked: tuple[int, ...]

    def load(self) -> "Policies":
        """Read all that policies are made of, and fit those that are fitted."""
        size = len(read_descriptions(self.clusters, self.level))
        blocked = np.array(self.blocked, np.int32)
        rows = files.read_parts(files.join(self.transitions, "counts"), col.TRANSITION_COUNTS)
        c1, c2, novel, users = (rows[name].to_numpy() for name in col.TRANSITION_COUNTS.names)
        counts = TransitionCounts(c1, c2, novel, users, size)
        tables = {name: read_table_policy(folder, size, blocked) for name, folder in self.tables}
        embeddings = read_cluster_embeddings(self.clusters, self.level)
        affinity = read_affinity(self.transitions, embeddings)
        return Policies(
            tables=tables,
            counting={
                **count_policies(counts, embeddings, blocked),
                AFFINITY: Unblocked(affinity, blocked),
            },
            train=counts.labels(),
            affinity=PooledAffinity(affinity, blocked),
            log_popularity=np.log(popularity(counts)).astype(np.float32),
        )


@dataclass(frozen=True, eq=False)
class Policies:
    """The policies that score any pair of interests.

    Attributes
    ----------
    tables
        Novelty tables by name.
    counting
        Those of COUNT_POLICIES by name.
    train
        [M] transitions of training users to each cluster.
    affinity
        What our table learned from, for all recent pairs.
    log_popularity
        [M] float32
    """

    tables: dict[str, TablePolicy]
    counting: dict[str, Policy]
    train: np.ndarray
    affinity: PooledAffinity
    log_popularity: np.ndarray

    @property
    def size(self) -> int:
        """How many clusters there are, M."""
        return len(self.train)

    def prior(self, weight: float) -> PriorPolicy:
        """Return our table together with popularity."""
        return PriorPolicy(self.tables[TABLE], self.log_popularity, weight)

    def of_recent(self) -> dict[str, PooledPolicy | PooledAffinity]:
        """Return all that score all recent pairs of a user at once."""
        return {POOLED: self.pooled, AFFINITY_POOLED: self.affinity}

    @cached_property
    def pooled(self) -> PooledPolicy:
        """Return our table asked about all recent pairs."""
        table, packed = self.tables[TABLE], (self.size, self.size, -1)
        worth = evidence(
            table.novel.reshape(packed), table.probability.reshape(packed), table.blocked
        )
        return PooledPolicy(table.novel, worth.reshape(table.novel.shape), self.size)

    def by_name(self, weight: float) -> dict[str, Policy]:
        """Return all that score pairs, with the weight of popularity in PRIOR."""
        return {**self.tables, PRIOR: self.prior(weight), **self.counting}


@dataclass(frozen=True, eq=False)
class Unblocked:
    """Another policy, without the clusters that are blocked.

    Attributes
    ----------
    policy
        The other one.
    blocked
        [blocked] clusters that are never an answer.
    """

    policy: Policy
    blocked: np.ndarray

    def scores(self, c1: NDArray[np.int32], c2: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score the clusters, as `Policy.scores`."""
        return without(self.policy.scores(c1, c2), c1, c2, self.blocked)


def read_table_policy(folder: str, size: int, blocked: np.ndarray) -> TablePolicy:
    """Read the novelty table in a folder, of M = `size` clusters."""
    table = files.read_parts(folder, col.NOVELTY_TABLE)
    novel, probability = (part.reshape(size**2, -1) for part in pack_table(table, size))
    return TablePolicy(novel, probability, size, blocked)


@dataclass(eq=False)
class WithPolicies(beam.DoFn):
    """Applies a function of (policies, element, *side inputs) that yields elements.

    The policies are loaded once in a process, which its threads share.
    """

    sources: PolicySources
    function: Callable[..., Any]
    shared: Shared = field(default_factory=Shared)

    def setup(self) -> None:
        """Load the policies, unless another thread of this process has."""
        self._policies = self.shared.acquire(self.sources.load)

    def process(self, element: Any, *side_inputs: Any) -> Any:
        """Apply the function."""
        return self.function(self._policies, element, *side_inputs)
