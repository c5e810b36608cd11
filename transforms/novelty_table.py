"""All pairs of clusters through the language policy, a row of the table at a time."""

import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from models.child_process import ChildProcess
from models.vllm_engine import engine_environment
from transforms import files
from transforms import schemas as col
from transforms.errors import InputError, as_input_error
from transforms.folders import local_copy
from transforms.manifest import Tally

log = logging.getLogger("interest-explorer")


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


@dataclass(frozen=True)
class Policy:
    """What decides the table: see `models.novelty_decoder.NoveltyDecoder`."""

    model: str
    descriptions: tuple[str, ...]
    template: str
    blocked: tuple[int, ...]
    n: int
    seed: int
    engine_args: str  # JSON


@dataclass(eq=False)
class BuildNoveltyTable(beam.PTransform):
    """Writes the rows of the table that are missing from a folder, a file per c1."""

    folder: str
    policy: Policy

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[Tally]:
        from transforms.inference import BatchHandler, RunInference

        policy, size = self.policy, len(self.policy.descriptions)
        handler = BatchHandler(lambda: _Decoder(policy), lambda decoder, c1: (c1, decoder.row(c1)))
        rows = (
            begin
            | "Rows" >> beam.Create(range(size))
            | "Spread" >> beam.Reshuffle()
            | "Resume"
            >> beam.ParDo(_Resume(self.folder, size)).with_outputs("done", main="missing")
        )
        written = (
            rows.missing | "Decode" >> RunInference(handler) | "Write" >> beam.MapTuple(self._write)
        )
        return (rows.done, written) | beam.Flatten()

    def _write(self, c1: int, row: pa.Table) -> Tally:
        name = row_file(c1, len(self.policy.descriptions))
        record = files.write_parquet(self.folder, name, row)
        Metrics.counter("novelty_table", "pairs_written").inc(row.num_rows)
        return Tally(written=row.num_rows, files=(record,))


def row_file(c1: int, size: int) -> str:
    """Return the name of the file of one row of the table."""
    return f"part-{c1:05d}-of-{size:05d}.parquet"


class _Resume(beam.DoFn):
    """Tells the rows that an interrupted run committed from those that are missing."""

    def __init__(self, folder: str, size: int) -> None:
        self._folder, self._size = folder, size

    def process(self, c1: int) -> Iterator[Any]:
        name = row_file(c1, self._size)
        path = files.join(self._folder, name)
        if not files.exists(path):
            yield c1
            return
        content = files.read_bytes(path)
        rows = pq.read_metadata(pa.BufferReader(content)).num_rows
        Metrics.counter("novelty_table", "pairs_resumed").inc(rows)
        yield beam.pvalue.TaggedOutput(
            "done", Tally(written=rows, files=(files.record(name, content),))
        )


class _Decoder:
    """A decoder in a process of its own, and how far it has come."""

    def __init__(self, policy: Policy) -> None:
        arguments = {
            "model": local_copy(policy.model),
            "descriptions": policy.descriptions,
            "template": policy.template,
            "blocked": policy.blocked,
            "n": policy.n,
            "seed": policy.seed,
            "engine_args": json.loads(policy.engine_args),
        }
        log.info("build_novelty_table: starting the engine")
        begun = time.monotonic()
        with as_input_error():
            self._process = ChildProcess(
                "models.novelty_decoder:NoveltyDecoder", arguments, engine_environment()
            )
        log.info("build_novelty_table: engine ready after %.0f s", time.monotonic() - begun)
        self._size = len(policy.descriptions)
        self._lock = threading.Lock()  # the threads of a worker share the process
        self._done, self._begun = 0, time.monotonic()

    def row(self, c1: int) -> pa.Table:
        """Return the row of c1: all pairs (c1, c2)."""
        c2 = np.arange(self._size)
        with self._lock:
            answer = self._process.call("decode", np.full(self._size, c1), c2)
            self._done += 1
            speed = self._done * self._size / (time.monotonic() - self._begun)
        log.info(
            "build_novelty_table: row %d of %d done here, %.0f pairs/s, %.0f s left for one worker",
            self._done,
            self._size,
            speed,
            (self._size - self._done) * self._size / speed,
        )
        return table_row(c1, c2, *answer)
