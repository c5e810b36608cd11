"""Replays weeks of recommendation under each policy in parallel; see `models.evaluation`.

A task of a fixed policy is (policy, seed, block of users). Policies that learn or draw see all
users of a day at once: their task is (policy, seed).
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from models.common.hashing import mix
from models.evaluation.simulation.bandits import (
    Arms,
    HierarchicalBandit,
    NeuralLinearBandit,
    Random,
    Scorer,
)
from models.evaluation.simulation.fit_user_model import fit_user_model
from models.evaluation.simulation.simulation import (
    NO_EXPLORATION,
    SimulationConfig,
    replay,
    simulation_entry,
)
from models.evaluation.simulation.user_model import Histories, UserModel, UserState
from transforms import schemas as col
from transforms.storage import files
from transforms.tables.sharding import stable_hash
from transforms.tables.shuffle import GatherTables

RANDOM = "random"
BANDITS: dict[str, Callable[[Arms, int], Scorer]] = {
    "hierarchical_bandit": HierarchicalBandit,
    "neural_linear_bandit": NeuralLinearBandit,
}
AT_ONCE = (RANDOM, *BANDITS)  # policies that see all users of a day at once
CONTROLS = (NO_EXPLORATION, *AT_ONCE)  # always simulated
_BLOCK = 1000  # users of a task
_KEY, _CLUSTERS = "key", "clusters"
HISTORIES = pa.schema({_KEY: pa.uint64(), _CLUSTERS: pa.list_(pa.int32())})

Task = tuple[str, int, int]  # policy, number of the seed, block of users
Replayed = tuple[tuple[str, int], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class World:
    """The simulated users."""

    model: UserModel
    state: UserState
    keys: NDArray[np.uint64]  # [n] a hash of each user


def read_arms(clusters: str, level: int, embeddings: NDArray[np.float32]) -> Arms:
    """Read the tree above the clusters of a level, with `embeddings` [M, d]."""
    table = files.read_parquet(files.join(clusters, "clusters.parquet"), col.CLUSTERS)
    ancestors = [np.arange(len(embeddings), dtype=np.int32)]
    for above in range(level, 0, -1):
        nodes = table.filter(pc.equal(table[col.LEVEL], above)).sort_by(col.CLUSTER_ID)
        ancestors.append(nodes[col.PARENT_ID].to_numpy().astype(np.int32)[ancestors[-1]])
    return Arms(np.array(ancestors[::-1]), embeddings)


def latest_engagements(
    sequences: pa.Table, clusters: NDArray[np.int32], config: SimulationConfig
) -> pa.Table:
    """Return HISTORIES: the clusters of users' latest engagements, sorted by key.

    Draws the users of SEQUENCES by hash; `clusters` [items] are those of the catalogue's items.
    """
    key = stable_hash(sequences[col.USER_ID], config.seed)
    drawn = np.argsort(key)[: config.users]
    items = sequences[col.ITEMS_OF_USER].combine_chunks().take(pa.array(drawn))
    lengths = pc.list_value_length(items).to_numpy()
    kept = np.minimum(lengths, config.history)
    flat = clusters[items.flatten().to_numpy()].astype(np.int32)
    place = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    latest = flat[place >= np.repeat(lengths - kept, lengths)]
    offsets = np.append(0, np.cumsum(kept)).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(latest))
    return pa.table([pa.array(key[drawn]), lists], schema=HISTORIES)


def world_of(histories: pa.Table, size: int, config: SimulationConfig) -> World | None:
    """Fit the model on the users of the lowest keys in HISTORIES; None without users."""
    some = histories.slice(0, config.users)
    Metrics.counter(Simulate, "users").inc(some.num_rows)
    Metrics.counter(Simulate, "users_not_drawn").inc(histories.num_rows - some.num_rows)
    if not some.num_rows:
        return None
    lists = some[_CLUSTERS].combine_chunks()
    offsets = np.append(0, np.cumsum(pc.list_value_length(lists).to_numpy()))
    log = Histories(offsets.astype(np.int64), lists.flatten().to_numpy())
    model = fit_user_model(log, size)
    return World(model, model.state_of(log), some[_KEY].to_numpy())


def tasks_of(names: Iterable[str], config: SimulationConfig) -> list[Task]:
    """Return all tasks; the last blocks may have no users."""
    blocks = range(-(-config.users // _BLOCK))
    return [
        (name, seed, block)
        for name in (*names, *CONTROLS)
        for seed in range(config.seeds)
        for block in (blocks if name not in AT_ONCE else range(1))
    ]


def users_of(task: Task) -> slice:
    """Return the rows of the users of a task."""
    name, _, block = task
    return slice(None) if name in AT_ONCE else slice(block * _BLOCK, (block + 1) * _BLOCK)


class InProcess:
    """The policies that threads of a process share, and a limit of BLAS to one thread.

    The matrices of a replay are small: with more threads BLAS would mostly wait.
    """

    def __init__(self, policies: Mapping[str, Scorer]) -> None:
        self.policies = policies
        self._lock, self._running = threading.Lock(), 0

    @contextmanager
    def single_threaded(self) -> Iterator[None]:
        """Limit BLAS to one thread until the last caller is done."""
        with self._lock:
            if not self._running:
                self._limits = threadpool_limits(1, "blas")
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    self._limits.restore_original_limits()


@dataclass(eq=False)
class Replay(beam.DoFn):
    """Task -> ((policy, seed), sums of `replay`)."""

    policies: Callable[[float], Mapping[str, Scorer]]
    config: SimulationConfig
    blocked: tuple[int, ...]
    shared: Shared = field(default_factory=Shared)

    def process(
        self, element: Task, world: World | None, arms: Arms, weight: float
    ) -> Iterator[Replayed]:
        """Replay the days of a task."""
        name, number, _ = element
        rows = users_of(element)
        if world is None or not len(world.keys[rows]):
            return
        seed = int(mix(np.array([number]), self.config.seed)[0] >> np.uint64(1))
        here = self.shared.acquire(lambda: InProcess(self.policies(weight)))
        with here.single_threaded():
            totals = replay(
                world.model,
                world.state.rows(rows),
                world.keys[rows],
                self._policy(name, here, arms, seed),
                self.config,
                seed,
                np.array(self.blocked, np.int32),
            )
        Metrics.counter(Simulate, "engagements").inc(int(totals[:, 2].sum()))
        yield (name, number), totals

    def _policy(self, name: str, here: InProcess, arms: Arms, seed: int) -> Scorer | None:
        if name == NO_EXPLORATION:
            return None
        if name == RANDOM:
            return Random(arms.ancestors.shape[1], seed)
        if name in BANDITS:
            return BANDITS[name](arms, seed)
        return here.policies[name]


@dataclass(eq=False)
class Simulate(beam.PTransform):
    """SEQUENCES of held-out users -> `simulation` of metrics.json; None without users.

    Always adds the policies CONTROLS to the fixed policies `names`.
    """

    config: SimulationConfig
    names: tuple[str, ...]
    # loads the fixed policies on a worker, given the weight
    policies: Callable[[float], Mapping[str, Scorer]]
    weight: beam.PCollection  # of one number: the weight of popularity
    item_clusters: beam.PCollection  # of one tuple: the ids and the clusters of the items
    arms: beam.PCollection  # of one `Arms`
    blocked: tuple[int, ...] = ()

    def expand(self, sequences: beam.PCollection[pa.Table]) -> beam.PCollection[Any]:
        arms = beam.pvalue.AsSingleton(self.arms)
        world = (
            sequences
            | "Latest"
            >> beam.Map(
                lambda table, items: latest_engagements(table, items[1], self.config),
                beam.pvalue.AsSingleton(self.item_clusters),
            ).with_output_types(pa.Table)
            | "Gather" >> GatherTables(HISTORIES, (_KEY,))
            | "Fit"
            >> beam.Map(
                lambda table, arms: world_of(table, arms.ancestors.shape[1], self.config), arms
            )
        )
        return (
            sequences.pipeline
            | "Tasks" >> beam.Create(tasks_of(self.names, self.config))
            | "Spread" >> beam.Reshuffle()
            | "Replay"
            >> beam.ParDo(
                Replay(self.policies, self.config, self.blocked),
                beam.pvalue.AsSingleton(world),
                arms,
                beam.pvalue.AsSingleton(self.weight),
            )
            | "Collect" >> beam.combiners.ToList()
            | "Entry" >> beam.Map(entry_of)
        )


def entry_of(replays: list[Replayed]) -> dict[str, Any] | None:
    """Add up the blocks of users into `simulation_entry`; None without any."""
    totals: dict[str, dict[int, NDArray[np.int64]]] = {}
    for (name, seed), sums in replays:
        of_seed = totals.setdefault(name, {})
        of_seed[seed] = of_seed[seed] + sums if seed in of_seed else sums
    return simulation_entry(totals) if totals else None
