"""Diversified training data: a bounded sample of the counted transitions to each label.

A seeded hash gives each transition a key, and the transitions with the smallest keys are drawn. So
the sample depends neither on the order of rows nor on the split over workers, and the memory is
that of the sample.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa

from models.common.hashing import mix
from transforms import schemas as col
from transforms.tables.arrow_coder import ArrowTableCoder
from transforms.transitions.mine import pack

STRATEGIES = {
    "uniform": "each pair (c1, c2) of a label is as likely as any other",
    "weighted": "a pair of a label is the likelier the more users it has",
    "none": "no diversification: as many rows in all, drawn by their users whatever the label",
}
_BATCH_ROWS = 1 << 18  # sorted at once
_NONE = col.TRANSITION_COUNTS.empty_table()


@dataclass(frozen=True)
class Sampling:
    """The parameters of the sample."""

    strategy: str  # one of STRATEGIES
    per_label: int  # rows of each label, at most; with `none`, on average
    labels: int  # M, the number of clusters
    seed: int

    @property
    def groups(self) -> int:
        """Number of groups of rows, each with its own cap."""
        return 1 if self.strategy == "none" else self.labels

    @property
    def cap(self) -> int:
        """Rows of each group, at most."""
        return self.per_label * self.labels // self.groups

    def group_of(self, counts: pa.Table) -> np.ndarray:
        """Return the group of each row of TRANSITION_COUNTS, [rows] int."""
        if self.strategy == "none":
            return np.zeros(counts.num_rows, np.int64)
        return counts[col.NOVEL].to_numpy()

    def keys(self, counts: pa.Table) -> np.ndarray:
        """Return the key of each row of TRANSITION_COUNTS, [rows] float64.

        -log(1 - u) / weight, u uniform in [0, 1): the k smallest are a sample without replacement
        in which every draw is in proportion to the weight (Efraimidis & Spirakis, Information
        Processing Letters 97, 2006).
        """
        hashes = mix(pack(counts), self.seed)
        keys = -np.log1p(-((hashes >> np.uint64(11)) * 2.0**-53))
        return keys if self.strategy == "uniform" else keys / counts[col.USERS].to_numpy()


def diversify(counts: pa.Table, sampling: Sampling, drawn: pa.Table = _NONE) -> pa.Table:
    """Draw the training examples from TRANSITION_COUNTS, sorted by (novel, c1, c2).

    Rows may be in any order and may repeat. With the rows `drawn` from other counts, the result is
    the sample of all counts together.
    """
    for batch in counts.to_batches(max_chunksize=_BATCH_ROWS):
        further = _can_be_drawn(pa.table(batch), drawn, sampling)
        drawn = _smallest(pa.concat_tables([drawn, further]), sampling)
    return drawn


def _can_be_drawn(counts: pa.Table, drawn: pa.Table, sampling: Sampling) -> pa.Table:
    """Remove, without a sort, the rows whose groups are full of smaller keys."""
    group = sampling.group_of(drawn)
    largest = np.zeros(sampling.groups)
    np.maximum.at(largest, group, sampling.keys(drawn))
    full = np.bincount(group, minlength=sampling.groups) == sampling.cap
    limit = np.where(full, largest, np.inf)
    return counts.filter(pa.array(sampling.keys(counts) <= limit[sampling.group_of(counts)]))


def _smallest(counts: pa.Table, sampling: Sampling) -> pa.Table:
    """Draw from rows by a sort of all rows."""
    # A count never shrinks: of two counts of a transition the larger one is complete.
    once = counts.group_by([col.C1, col.C2, col.NOVEL]).aggregate([(col.USERS, "max")])
    once = once.rename_columns(col.TRANSITION_COUNTS.names).cast(col.TRANSITION_COUNTS)
    group = sampling.group_of(once)
    order = np.lexsort((pack(once), sampling.keys(once), group))
    group = group[order]
    rank = np.arange(len(group)) - np.searchsorted(group, group)  # in the group
    drawn = once.take(pa.array(order[rank < sampling.cap]))
    return drawn.take(pa.array(np.argsort(pack(drawn)))).combine_chunks()


@dataclass(eq=False)
class DiversifyFn(beam.CombineFn):
    """Runs `diversify` on tables of TRANSITION_COUNTS; the accumulator is the sample so far."""

    sampling: Sampling

    def create_accumulator(self) -> pa.Table:
        return _NONE

    def add_input(self, drawn: pa.Table, counts: pa.Table) -> pa.Table:
        return diversify(counts, self.sampling, drawn)

    def merge_accumulators(self, samples: Iterable[pa.Table]) -> pa.Table:
        return functools.reduce(self.add_input, samples)

    def extract_output(self, drawn: pa.Table) -> pa.Table:
        return drawn

    def get_accumulator_coder(self) -> beam.coders.Coder:
        return ArrowTableCoder()
