"""Loads the policies of an evaluation from the workspace."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.utils.shared import Shared
from numpy.typing import NDArray

from models.evaluation.policies.count_policies import (
    TransitionCounts,
    count_policies,
    exclude,
    popularity,
)
from models.evaluation.policies.policy import Policy
from models.evaluation.policies.policy_names import AFFINITY, AFFINITY_POOLED, POOLED, PRIOR, TABLE
from models.evaluation.policies.pooled_policy import PooledFollowLift, PooledPolicy
from models.evaluation.policies.table_policy import PriorPolicy, TablePolicy
from transforms import schemas as col
from transforms.clusters.read_clusters import read_cluster_embeddings, read_descriptions
from transforms.language.read_novelty_table import read_novelty_table
from transforms.storage.stage_files import read_parts
from transforms.transitions.follow_counts import read_affinity


@dataclass(frozen=True)
class PolicySources:
    """The folders that policies are read from."""

    clusters: str
    level: int
    transitions: str
    tables: tuple[tuple[str, str], ...]  # (name, folder) of novelty tables; ours is TABLE, first
    blocked: tuple[int, ...]  # clusters that are never recommended

    def load(self) -> "Policies":
        """Read the tables and the counts, and fit the policies on the counts."""
        descriptions = read_descriptions(self.clusters, self.level)
        blocked = np.array(self.blocked, np.int32)
        rows = read_parts(self.transitions, "counts", col.TRANSITION_COUNTS)
        c1, c2, novel, users = (rows[name].to_numpy() for name in col.TRANSITION_COUNTS.names)
        counts = TransitionCounts(c1, c2, novel, users, len(descriptions))
        embeddings = read_cluster_embeddings(self.clusters, self.level)
        follow_lift = read_affinity(self.transitions, embeddings)
        tables = {
            name: TablePolicy(read_novelty_table(folder, descriptions, self.blocked))
            for name, folder in self.tables
        }
        return Policies(
            tables=tables,
            counting={
                **count_policies(counts, embeddings, blocked),
                AFFINITY: Unblocked(follow_lift, blocked),
            },
            pooled={
                POOLED: PooledPolicy(tables[TABLE].table),
                AFFINITY_POOLED: PooledFollowLift(follow_lift, blocked),
            },
            train=counts.labels(),
            log_popularity=np.log(popularity(counts)).astype(np.float32),
        )


@dataclass(frozen=True, eq=False)
class Policies:
    """The policies by name, and the counts of the training users."""

    tables: dict[str, TablePolicy]
    counting: dict[str, Policy]  # COUNT_POLICIES
    pooled: dict[str, PooledPolicy | PooledFollowLift]
    train: np.ndarray  # [M] transitions of training users to each cluster
    log_popularity: np.ndarray  # [M] float32

    @property
    def size(self) -> int:
        """The number of clusters, M."""
        return len(self.train)

    def prior(self, weight: float) -> PriorPolicy:
        """Return our table with popularity added."""
        return PriorPolicy(self.tables[TABLE], self.log_popularity, weight)

    def by_name(self, weight: float) -> dict[str, Policy]:
        """Return the policies that score pairs, with this weight of popularity in PRIOR."""
        return {**self.tables, PRIOR: self.prior(weight), **self.counting}


@dataclass(frozen=True, eq=False)
class Unblocked:
    """Takes the blocked clusters out of another policy."""

    policy: Policy
    blocked: np.ndarray

    def scores(self, c1: NDArray[np.int32], c2: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score the clusters, as `Policy.scores`."""
        return exclude(self.policy.scores(c1, c2), c1, c2, self.blocked)


@dataclass(eq=False)
class WithPolicies(beam.DoFn):
    """Applies a function of (policies, element, *side inputs) that yields elements.

    The threads of a process share the policies.
    """

    sources: PolicySources
    function: Callable[..., Any]
    shared: Shared = field(default_factory=Shared)

    def setup(self) -> None:
        """Load the policies, unless another thread of this process did."""
        self._policies = self.shared.acquire(self.sources.load)

    def process(self, element: Any, *side_inputs: Any) -> Any:
        """Apply the function."""
        return self.function(self._policies, element, *side_inputs)
