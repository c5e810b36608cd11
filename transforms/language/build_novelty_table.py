"""The novelty table: its rows, and all pairs through the language policy, a unit at a time."""

import itertools
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics

from transforms import schemas as col
from transforms.errors import InputError
from transforms.language.novelty_engine import LanguagePolicy, NoveltyEngine
from transforms.storage.commit_log import CommitLog
from transforms.storage.manifest import RowCounts
from transforms.workers.progress import LogThrottle

log = logging.getLogger("interest-explorer")

PAIRS_PER_UNIT = 1024  # at most: what a kill can cost, and what an engine is given at a time
_LOG_SECONDS = 10.0


@dataclass(frozen=True)
class Unit:
    """A row of the table, or a part of a long one: the pairs of one c1 with a range of c2.

    They share most of their prompts, and are decoded, committed and retried together.
    """

    c1: int
    c2: range
    file: str


def row_parts(size: int) -> list[range]:
    """Cut a row of the table of `size` clusters into the c2 of its units."""
    parts = -(-size // PAIRS_PER_UNIT)
    return [range(size * part // parts, size * (part + 1) // parts) for part in range(parts)]


def units(size: int) -> list[Unit]:
    """Return all units of the table of `size` clusters, in the order of their pairs."""
    pairs = list(itertools.product(range(size), row_parts(size)))
    return [
        Unit(c1, c2, f"part-{number:05d}-of-{len(pairs):05d}.parquet")
        for number, (c1, c2) in enumerate(pairs)
    ]


def table_row(c1: int, c2: np.ndarray, clusters: np.ndarray, probabilities: np.ndarray) -> pa.Table:
    """Return the NOVELTY_TABLE of one c1.

    Parameters
    ----------
    c2
        [pairs], ascending.
    clusters, probabilities
        [pairs, n], best first, clusters padded with -1.
    """
    there = clusters >= 0
    offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32)
    return pa.table(
        [
            pa.array(np.full(len(c2), c1, np.int32)),
            pa.array(c2.astype(np.int32)),
            pa.ListArray.from_arrays(pa.array(offsets), pa.array(clusters[there])),
            pa.ListArray.from_arrays(pa.array(offsets), pa.array(probabilities[there])),
        ],
        schema=col.NOVELTY_TABLE,
    )


def resolve_blocked(names: Sequence[str], descriptions: Sequence[str]) -> list[int]:
    """Return the ids of clusters named by id or by description.

    Raises
    ------
    InputError
        If there is no such cluster, or too few are left.
    """
    by_description = {text.casefold(): cluster for cluster, text in enumerate(descriptions)}
    blocked = set()
    for name in names:
        if name.isdecimal() and int(name) < len(descriptions):
            blocked.add(int(name))
        elif name.casefold() in by_description:
            blocked.add(by_description[name.casefold()])
        else:
            raise InputError(
                f"--blocked_clusters: {name!r} is neither the id (0 to {len(descriptions) - 1}) "
                "nor the description of a cluster of this level; see clusters/clusters.parquet"
            )
    if len(descriptions) - len(blocked) < 1:
        raise InputError("--blocked_clusters blocks every cluster; leave some to recommend")
    return sorted(blocked)


@dataclass(eq=False)
class BuildNoveltyTable(beam.PTransform):
    """Writes the units of the table that are not committed yet.

    Attributes
    ----------
    committed
        Where units go.
    policy
        What decides the table.
    hints
        Resource hints of the workers that host the engine.
    engine
        (policy, secret of the job) -> what decodes.
    """

    committed: CommitLog
    policy: LanguagePolicy
    hints: dict[str, str] = field(default_factory=dict)
    engine: Callable[[LanguagePolicy, str], NoveltyEngine] = NoveltyEngine

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[RowCounts]:
        from transforms.workers.batch_inference import BatchHandler, RunInference

        # All workers of this job, and only they, share the engine of their machine.
        engine, policy, secret = self.engine, self.policy, secrets.token_hex(16)
        handler = BatchHandler(lambda: engine(policy, secret), _decode)
        decode = RunInference(handler).with_resource_hints(**self.hints)
        todo = (
            begin
            | "Units" >> beam.Create(units(len(policy.prompts.descriptions)))
            | "Spread" >> beam.Reshuffle()
            | "Resume" >> beam.ParDo(_Resume(self.committed)).with_outputs("done", main="missing")
        )
        written = (
            todo.missing
            | "Decode" >> decode
            | "Write" >> beam.ParDo(_Write(self.committed, len(policy.prompts.descriptions)))
        )
        return (todo.done, written) | beam.Flatten()


class _Resume(beam.DoFn):
    """Tells the units that an interrupted run committed from those that are missing.

    It lists them when a bundle begins: one that is tried again finds what it had come to.
    """

    def __init__(self, committed: CommitLog) -> None:
        self._committed = committed

    def start_bundle(self) -> None:
        self._find = self._committed.finder()

    def process(self, unit: Unit) -> Iterator[Any]:
        record = self._find(unit.file)
        if record is None:
            yield unit
        else:
            Metrics.counter("novelty_table", "pairs_resumed").inc(len(unit.c2))
            tally = RowCounts(written=len(unit.c2), files=(record,))
            yield beam.pvalue.TaggedOutput("done", tally)


def _decode(engine: NoveltyEngine, unit: Unit) -> tuple[Unit, pa.Table]:
    c2 = np.array(unit.c2)
    return unit, table_row(unit.c1, c2, *engine.decode(np.full(len(c2), unit.c1), c2))


class _Write(beam.DoFn):
    """Commits units, and says now and then how far all workers have come."""

    def __init__(self, committed: CommitLog, size: int) -> None:
        self._committed, self._size = committed, size
        self._line = LogThrottle(_LOG_SECONDS, at_once=True)

    def process(self, decoded: tuple[Unit, pa.Table]) -> Iterator[RowCounts]:
        unit, table = decoded
        record = self._committed.write(unit.file, table)
        Metrics.counter("novelty_table", "pairs_written").inc(table.num_rows)
        if self._line.is_due():
            log.info("build_novelty_table: %s", progress_line(self._committed, self._size))
        yield RowCounts(written=table.num_rows, files=(record,))


def progress_line(committed: CommitLog, size: int) -> str:
    """Say how much of the table of `size` clusters is committed, and how long the rest takes."""
    total = len(units(size))
    progress = committed.progress(total)
    line = f"{progress.done:,} of {total:,} units done"
    if progress.done < total and progress.seconds_left is not None:
        pairs = size * size * (total - progress.done) / total
        speed = pairs / max(progress.seconds_left, 1e-9)
        line += f", {speed:,.0f} pairs/s, {progress.seconds_left:,.0f} s left"
    return line
