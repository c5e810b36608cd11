"""Draws the items that clusters are fitted on, in proportion to traffic."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa

from models.clustering.traffic_sample import sample_keys, smallest, times_drawn
from transforms import schemas as col
from transforms.clusters.item_traffic import ITEMS_WITH_TRAFFIC
from transforms.tables.sharding import stable_hash

TIMES = "times"  # how many items a sampled one represents
TREE_SAMPLE = ITEMS_WITH_TRAFFIC.append(pa.field(TIMES, pa.float64()))


@dataclass(eq=False)
class DrawSample(beam.CombineFn):
    """ITEMS_WITH_TRAFFIC -> TREE_SAMPLE of at most `size` items, sorted by id.

    An accumulator has one item more, whose key `times_drawn` needs. The sample of a union is the
    sample of the samples of its parts.
    """

    size: int
    seed: int

    def create_accumulator(self) -> pa.Table:
        return ITEMS_WITH_TRAFFIC.empty_table()

    def add_input(self, sample: pa.Table, items: pa.Table) -> pa.Table:
        items = pa.concat_tables([sample, items])
        kept = smallest(self._keys(items), self.size)
        return items if len(kept) == items.num_rows else items.take(pa.array(kept)).combine_chunks()

    def merge_accumulators(self, samples: Iterable[pa.Table]) -> pa.Table:
        return functools.reduce(self.add_input, samples)

    def extract_output(self, sample: pa.Table) -> pa.Table:
        sample = sample.sort_by(col.ITEM_ID)
        times = times_drawn(self._keys(sample), sample[col.TRAFFIC].to_numpy(), self.size)
        return sample.append_column(TREE_SAMPLE.field(TIMES), pa.array(times)).filter(
            pa.array(times > 0)
        )

    def get_accumulator_coder(self) -> beam.coders.Coder:
        return beam.coders.registry.get_coder(pa.Table)

    def _keys(self, items: pa.Table) -> np.ndarray:
        hashes = stable_hash(items[col.ITEM_ID], self.seed)
        return sample_keys(hashes, items[col.TRAFFIC].to_numpy())
