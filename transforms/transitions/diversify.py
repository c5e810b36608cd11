"""Diversified training data: a bounded sample of the counted transitions to each label.

A seeded hash of a transition, its key, decides whether it is drawn: those of the smallest keys
are. So the sample depends neither on the order of rows nor on how they are split over workers, and
it needs no more memory than the sample itself.
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
_BATCH_ROWS = 1 << 18  # what is sorted at a time


@dataclass(frozen=True)
class Sampling:
    """How the sample is drawn.

    Attributes
    ----------
    strategy
        One of STRATEGIES.
    per_label
        Rows of each label, at most; with `none`, on average.
    labels
        M, the number of clusters.
    seed
        Another seed draws another sample.
    """

    strategy: str
    per_label: int
    labels: int
    seed: int

    @property
    def groups(self) -> int:
        """Number of groups of rows of which each has its cap."""
        return 1 if self.strategy == "none" else self.labels

    @property
    def cap(self) -> int:
        """Rows of each group, at most."""
        return self.per_label * self.labels // self.groups

    def group_of(self, counts: pa.Table) -> np.ndarray:
        """[rows] int: the group of each row of TRANSITION_COUNTS."""
        if self.strategy == "none":
            return np.zeros(counts.num_rows, np.int64)
        return counts[col.NOVEL].to_numpy()

    def keys(self, counts: pa.Table) -> np.ndarray:
        """Return the keys of TRANSITION_COUNTS, of which the smallest are drawn.

        -log(1 - u) / weight, u uniform in [0, 1): the k smallest are a sample without replacement
        in which every draw is in proportion to the weight (Efraimidis & Spirakis, Information
        Processing Letters 97, 2006).

        Returns
        -------
        [rows] float64
        """
        hashes = mix(pack(counts), self.seed)
        keys = -np.log1p(-((hashes >> np.uint64(11)) * 2.0**-53))
        return keys if self.strategy == "uniform" else keys / counts[col.USERS].to_numpy()


def diversify(counts: pa.Table, sampling: Sampling) -> pa.Table:
    """Draw the training examples from counted transitions.

    Parameters
    ----------
    counts
        TRANSITION_COUNTS in any order. A transition that comes again is the same one.

    Returns
    -------
    The rows drawn, sorted by (novel, c1, c2).
    """
    return add(col.TRANSITION_COUNTS.empty_table(), counts, sampling)


def add(drawn: pa.Table, counts: pa.Table, sampling: Sampling) -> pa.Table:
    """Draw from what was drawn before and further rows; as `diversify` of all the rows at once."""
    for batch in counts.to_batches(max_chunksize=_BATCH_ROWS):
        further = _can_be_drawn(pa.table(batch), drawn, sampling)
        drawn = _smallest(pa.concat_tables([drawn, further]), sampling)
    return drawn


def _can_be_drawn(counts: pa.Table, drawn: pa.Table, sampling: Sampling) -> pa.Table:
    """Leave out, without a sort, the rows whose groups are full of smaller keys."""
    group = sampling.group_of(drawn)
    largest = np.zeros(sampling.groups)
    np.maximum.at(largest, group, sampling.keys(drawn))
    full = np.bincount(group, minlength=sampling.groups) == sampling.cap
    limit = np.where(full, largest, np.inf)
    return counts.filter(pa.array(sampling.keys(counts) <= limit[sampling.group_of(counts)]))


def _smallest(counts: pa.Table, sampling: Sampling) -> pa.Table:
    """Draw from rows by sorting them all."""
    # A count can't shrink: of the same transition twice the larger one is the whole.
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
    """`diversify` of tables of TRANSITION_COUNTS; what was drawn so far is the accumulator."""

    sampling: Sampling

    def create_accumulator(self) -> pa.Table:
        return col.TRANSITION_COUNTS.empty_table()

    def add_input(self, accumulator: pa.Table, element: pa.Table) -> pa.Table:
        return add(accumulator, element, self.sampling)

    def merge_accumulators(self, accumulators: Iterable[pa.Table]) -> pa.Table:
        return functools.reduce(self.add_input, accumulators, self.create_accumulator())

    def extract_output(self, accumulator: pa.Table) -> pa.Table:
        return accumulator

    def get_accumulator_coder(self) -> beam.coders.Coder:
        return ArrowTableCoder()


@dataclass(eq=False)
class Diversify(beam.PTransform):
    """Tables of TRANSITION_COUNTS -> one table of the rows drawn; see `diversify`."""

    sampling: Sampling

    def expand(self, counts: beam.PCollection[pa.Table]) -> beam.PCollection[pa.Table]:
        return counts | beam.CombineGlobally(DiversifyFn(self.sampling)).with_output_types(pa.Table)
