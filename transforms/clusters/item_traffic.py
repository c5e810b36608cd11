"""Counts the engagements with each item."""

from collections.abc import Iterable

import apache_beam as beam
import numpy as np
import pyarrow as pa

from transforms import schemas as col
from transforms.tables.sharding import shards_of

ITEMS_WITH_TRAFFIC = col.ITEMS.append(pa.field(col.TRAFFIC, pa.float64()))


class CountTraffic(beam.CombineFn):
    """Item positions [n] int -> traffic float64 of the items up to the last position."""

    def create_accumulator(self) -> np.ndarray:
        return np.zeros(0)

    def add_input(self, traffic: np.ndarray, items: np.ndarray) -> np.ndarray:
        beyond = int(items.max(initial=-1)) + 1 - len(traffic)
        if beyond > 0:
            traffic = np.append(traffic, np.zeros(beyond))
        np.add.at(traffic, items, 1.0)  # in time of the batch, not of all items
        return traffic

    def merge_accumulators(self, counts: Iterable[np.ndarray]) -> np.ndarray:
        counts = list(counts)
        total = np.zeros(max(map(len, counts)))
        for traffic in counts:
            total[: len(traffic)] += traffic
        return total

    def extract_output(self, traffic: np.ndarray) -> np.ndarray:
        return traffic


def traffic_of_parts(traffic: np.ndarray, item_ids: pa.Array, parts: int) -> list[np.ndarray]:
    """Split the traffic of items as ShardBy splits the items: float64 of each part, by item id.

    `item_ids` [items] are sorted; `traffic` is by position, and items after its end have none.
    """
    of_all = np.zeros(len(item_ids))
    of_all[: len(traffic)] = traffic
    part = shards_of(item_ids, parts)
    ends = np.cumsum(np.bincount(part, minlength=parts))
    return np.split(of_all[np.argsort(part, kind="stable")], ends[:-1])


def add_traffic(items: pa.Table, traffic: np.ndarray) -> pa.Table:
    """Return the ITEMS_WITH_TRAFFIC of items with traffic [items]."""
    return items.append_column(ITEMS_WITH_TRAFFIC.field(col.TRAFFIC), pa.array(traffic))
