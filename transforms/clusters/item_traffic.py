"""How often users took up each item."""

import functools
from collections.abc import Iterable

import apache_beam as beam
import numpy as np
import pyarrow as pa

from transforms import schemas as col
from transforms.tables.sharding import shards_of

ITEMS_WITH_TRAFFIC = col.ITEMS.append(pa.field(col.TRAFFIC, pa.float64()))


class CountTraffic(beam.CombineFn):
    """Positions of items in the catalogue, [n] integers -> traffic up to the last one, float64."""

    def create_accumulator(self) -> np.ndarray:
        return np.zeros(0)

    def add_input(self, traffic: np.ndarray, items: np.ndarray) -> np.ndarray:
        beyond = int(items.max(initial=-1)) + 1 - len(traffic)
        if beyond > 0:
            traffic = np.append(traffic, np.zeros(beyond))
        np.add.at(traffic, items, 1.0)  # in time of the batch, not of the catalogue
        return traffic

    def merge_accumulators(self, counts: Iterable[np.ndarray]) -> np.ndarray:
        return functools.reduce(_add, counts)

    def extract_output(self, traffic: np.ndarray) -> np.ndarray:
        return traffic


def _add(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    short, long = sorted((one, other), key=len)
    total = long.copy()
    total[: len(short)] += short
    return total


def traffic_of_parts(traffic: np.ndarray, item_ids: pa.Array, parts: int) -> list[np.ndarray]:
    """Split the traffic of items as ShardBy splits the items.

    Parameters
    ----------
    traffic
        [<= items] by position; items beyond have none.
    item_ids
        [items] strings, sorted.
    parts
        Their number.

    Returns
    -------
    Per part, the traffic of its items in the order of their ids, float64.
    """
    of_all = np.zeros(len(item_ids))
    of_all[: len(traffic)] = traffic
    part = shards_of(item_ids, parts)
    ends = np.cumsum(np.bincount(part, minlength=parts))
    return np.split(of_all[np.argsort(part, kind="stable")], ends[:-1])


def add_traffic(items: pa.Table, traffic: np.ndarray) -> pa.Table:
    """Give items their traffic [items]: ITEMS_WITH_TRAFFIC."""
    return items.append_column(ITEMS_WITH_TRAFFIC.field(col.TRAFFIC), pa.array(traffic))
