"""Decodes all pairs of clusters and writes the novelty table, a unit at a time."""

import itertools
import logging
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics

from models.common.model_process import ModelProcessLost
from transforms import schemas as col
from transforms.language.novelty_engine import NoveltyEngine, NoveltyEngineSpec
from transforms.storage.commit_log import CommitLog
from transforms.storage.manifest import RowCounts
from transforms.workers.progress import LogThrottle

log = logging.getLogger("interest-explorer")

PAIRS_PER_UNIT = 1024  # at most: a crash costs the units under way
_LOG_SECONDS = 10.0


@dataclass(frozen=True)
class Unit:
    """The pairs of one c1 with a range of c2, which are decoded and committed together.

    They share most of their prompts.
    """

    c1: int
    c2: range
    file: str


def row_parts(size: int) -> list[range]:
    """Return the ranges of c2 that a row of the table is cut into."""
    parts = -(-size // PAIRS_PER_UNIT)
    return [range(size * part // parts, size * (part + 1) // parts) for part in range(parts)]


def units(size: int) -> list[Unit]:
    """Return all units of the table of `size` clusters in the order of their pairs."""
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


@dataclass(eq=False)
class BuildNoveltyTable(beam.PTransform):
    """Writes the units of the table that are not committed yet."""

    committed: CommitLog
    spec: NoveltyEngineSpec
    hints: dict[str, str] = field(default_factory=dict)  # resources of the engine's workers
    engine: Callable[[NoveltyEngineSpec, str], NoveltyEngine] = NoveltyEngine

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[RowCounts]:
        from transforms.workers.batch_inference import BatchHandler, RunInference

        # Only the workers of this job share the engine of their machine.
        engine, spec, secret = self.engine, self.spec, secrets.token_hex(16)
        handler = BatchHandler(lambda: _Decoder(engine(spec, secret)), _Decoder.decode)
        decode = RunInference(handler).with_resource_hints(**self.hints)
        size = len(spec.prompts.descriptions)
        todo = (
            begin
            | "Units" >> beam.Create(units(size))
            | "Spread" >> beam.Reshuffle()
            | "Resume" >> beam.ParDo(_Resume(self.committed)).with_outputs("done", main="missing")
        )
        written = (
            todo.missing
            | "Decode" >> decode
            | "Write" >> beam.ParDo(_Write(self.committed, size)).with_outputs("lost", main="done")
        )
        none_lost = (
            written.lost
            | "Lost" >> beam.combiners.ToList()
            | "NoneLost" >> beam.FlatMap(_require_none, len(units(size)))
        )
        return (todo.done, written.done, none_lost) | beam.Flatten()


class _Resume(beam.DoFn):
    """Separates committed units from missing ones.

    It lists the committed units when a bundle begins, so that a retry finds those of the last try.
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
            Metrics.counter(BuildNoveltyTable, "pairs_resumed").inc(len(unit.c2))
            tally = RowCounts(written=len(unit.c2), files=(record,))
            yield beam.pvalue.TaggedOutput("done", tally)


class _Decoder:
    """Decodes units; a unit that ends the engine again and again does not stop the others."""

    def __init__(self, engine: NoveltyEngine) -> None:
        self._engine, self._lost = engine, False

    def decode(self, unit: Unit) -> tuple[Unit, pa.Table | str]:
        """Return the unit's part of the table, or why there is none.

        Raises ModelProcessLost if two units in a row end the engine: then it is not the unit.
        """
        c2 = np.array(unit.c2)
        try:
            found = self._engine.decode(np.full(len(c2), unit.c1), c2)
        except ModelProcessLost as error:
            if self._lost:
                raise
            self._lost = True
            log.warning("build_novelty_table: %s is left out: %s", unit.file, error)
            return unit, str(error)
        self._lost = False
        return unit, table_row(unit.c1, c2, *found)


def _require_none(lost: list[tuple[str, str]], total: int) -> list[RowCounts]:
    """Return nothing; raise ModelProcessLost if there are units without a part of the table."""
    if lost:
        file, error = min(lost)
        raise ModelProcessLost(
            f"{len(lost):,} of {total:,} units are missing, the others are written; {file}: {error}"
        )
    return []


class _Write(beam.DoFn):
    """Commits units and logs the progress of all workers."""

    def __init__(self, committed: CommitLog, size: int) -> None:
        self._committed, self._size = committed, size
        self._line = LogThrottle(_LOG_SECONDS, at_once=True)

    def process(self, decoded: tuple[Unit, pa.Table | str]) -> Iterator[Any]:
        unit, table = decoded
        if isinstance(table, str):
            yield beam.pvalue.TaggedOutput("lost", (unit.file, table))
            return
        record = self._committed.write(unit.file, table)
        Metrics.counter(BuildNoveltyTable, "pairs_written").inc(table.num_rows)
        if self._line.is_due():
            log.info("build_novelty_table: %s", progress_line(self._committed, self._size))
        yield RowCounts(written=table.num_rows, files=(record,))


def progress_line(committed: CommitLog, size: int) -> str:
    """Return the committed share of the table of `size` clusters and the time left, as text."""
    total = len(units(size))
    progress = committed.progress(total)
    line = f"{progress.done:,} of {total:,} units done"
    if progress.done < total and progress.seconds_left is not None:
        pairs = size * size * (total - progress.done) / total
        speed = pairs / max(progress.seconds_left, 1e-9)
        line += f", {speed:,.0f} pairs/s, {progress.seconds_left:,.0f} s left"
    return line
