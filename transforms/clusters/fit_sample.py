"""The items that clusters are fitted on, drawn by traffic."""

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

TIMES = "times"  # how many items a sampled one stands for
TREE_SAMPLE = ITEMS_WITH_TRAFFIC.append(pa.field(TIMES, pa.float64()))


def weighted_sample(items: pa.Table, size: int, seed: int) -> pa.Table:
    """Draw items by traffic: size + 1 of them, as `drawn` needs, or all if there are fewer.

    The sample of a union is the sample of the samples of its parts.
    """
    kept = smallest(_keys(items, seed), size)
    return items if len(kept) == items.num_rows else items.take(pa.array(kept)).combine_chunks()


def drawn(sample: pa.Table, size: int, seed: int) -> pa.Table:
    """Turn what `weighted_sample` drew with the same size and seed into TREE_SAMPLE."""
    times = times_drawn(_keys(sample, seed), sample[col.TRAFFIC].to_numpy(), size)
    return sample.append_column(TREE_SAMPLE.field(TIMES), pa.array(times)).filter(
        pa.array(times > 0)
    )


@dataclass(eq=False)
class DrawSample(beam.CombineFn):
    """ITEMS_WITH_TRAFFIC -> TREE_SAMPLE of them all, sorted by id."""

    size: int
    seed: int

    def create_accumulator(self) -> pa.Table:
        return ITEMS_WITH_TRAFFIC.empty_table()

    def add_input(self, sample: pa.Table, items: pa.Table) -> pa.Table:
        return weighted_sample(pa.concat_tables([sample, items]), self.size, self.seed)

    def merge_accumulators(self, samples: Iterable[pa.Table]) -> pa.Table:
        return functools.reduce(self.add_input, samples)

    def extract_output(self, sample: pa.Table) -> pa.Table:
        return drawn(sample.sort_by(col.ITEM_ID), self.size, self.seed)

    def get_accumulator_coder(self) -> beam.coders.Coder:
        return beam.coders.registry.get_coder(pa.Table)


def _keys(items: pa.Table, seed: int) -> np.ndarray:
    return sample_keys(stable_hash(items[col.ITEM_ID], seed), items[col.TRAFFIC].to_numpy())
