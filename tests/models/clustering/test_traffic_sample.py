"""The sample by traffic: the same in whatever parts it is drawn, and right on average."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.clustering.traffic_sample import sample_keys, smallest, times_drawn


def hashes(items: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(2**64, size=items, dtype=np.uint64)


def long_tail(items: int) -> np.ndarray:
    return np.floor(np.random.default_rng(0).pareto(1.2, items) * 2)


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 20), st.randoms())
def test_the_sample_of_parts_in_any_order_is_the_sample_of_all(parts, size, random):
    keys = sample_keys(hashes(len(parts), 3), long_tail(len(parts)))
    merged = []
    order = list(range(4))
    random.shuffle(order)
    for part in order:
        merged += [place for place in range(len(parts)) if parts[place] == part]
        merged = [merged[at] for at in smallest(keys[merged], size)]
    assert set(merged) == set(smallest(keys, size).tolist())


def test_items_are_drawn_in_proportion_to_traffic_at_first():
    traffic = np.array([0.0, 1.0, 4.0])  # 1 : 2 : 5 with the one that each item has
    first = [sample_keys(hashes(3, seed), traffic).argmin() for seed in range(4_000)]
    assert np.bincount(first) / 4_000 == pytest.approx(np.array([1, 2, 5]) / 8, abs=0.03)


def test_sums_over_samples_are_those_over_all_items_on_average():
    traffic = long_tail(300)
    counts, sums = [], []
    for seed in range(400):
        keys = sample_keys(hashes(300, seed), traffic)
        kept = smallest(keys, 60)
        times = times_drawn(keys[kept], traffic[kept], 60)
        assert (times > 0).sum() == 60
        counts.append(times.sum())
        sums.append((times * traffic[kept]).sum())
    assert np.mean(counts) == pytest.approx(300, rel=0.05)
    assert np.mean(sums) == pytest.approx(traffic.sum(), rel=0.02)


@pytest.mark.parametrize("size", [20, 21])
def test_where_all_items_are_drawn_each_stands_for_itself(size):
    keys = sample_keys(hashes(20, 0), long_tail(20))
    assert smallest(keys, size).tolist() == list(range(20))
    assert times_drawn(keys, long_tail(20), size).tolist() == [1.0] * 20
