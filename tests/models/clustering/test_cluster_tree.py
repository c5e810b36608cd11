import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.clustering.balancing import Cap, apportion, capped_prices
from models.clustering.cluster_tree import (
    ClusterTree,
    assign_clusters,
    traffic_balance,
)
from models.clustering.fit_cluster_tree import fit_cluster_tree
from models.clustering.traffic_sample import sample_keys, smallest, times_drawn


def topics(items: int, count: int = 20, dimensions: int = 32, seed: int = 0) -> np.ndarray:
    """Embeddings around a few topics, [items, dimensions] float32."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count, dimensions))
    noise = rng.normal(size=(items, dimensions))
    return (centres[rng.integers(count, size=items)] + 0.5 * noise).astype(np.float32)


def long_tail(items: int, seed: int = 0) -> np.ndarray:
    """Interactions per item: some items with thousands, most with a few, some with none."""
    return np.floor(np.random.default_rng(seed).pareto(1.2, items) * 2)


def assert_every_cluster_has_an_item(tree: ClusterTree, cluster_ids: np.ndarray) -> None:
    for level, size in enumerate(tree.sizes):
        assert sorted(set(cluster_ids[:, level].tolist())) == list(range(size))


def cheapest(costs: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What `capped_prices` asks, of costs that are given."""
    return lambda prices: (costs + prices).argmin(1)


@pytest.mark.parametrize("sizes", [(8, 16, 32, 48), (8, 16, 32, 64), (10, 40, 160, 640), (24,)])
def test_every_level_carries_about_equal_traffic(sizes):
    embeddings, traffic = topics(5_000), long_tail(5_000)
    tree = fit_cluster_tree(embeddings, traffic, sizes)
    cluster_ids = assign_clusters(tree, embeddings)
    assert_every_cluster_has_an_item(tree, cluster_ids)
    for level, size in enumerate(sizes):
        allowed = max(1.5, size * traffic.max() / traffic.sum())
        assert traffic_balance(np.bincount(cluster_ids[:, level], traffic, size)) <= allowed * 1.001


def test_children_have_consecutive_ids_and_an_item_is_in_its_clusters_parent():
    embeddings = topics(600)
    tree = fit_cluster_tree(embeddings, np.ones(600), (3, 7, 20))
    cluster_ids = assign_clusters(tree, embeddings)
    assert tree.sizes == (3, 7, 20)
    assert (tree.parents[0] == -1).all()
    for level in (1, 2):
        parents = tree.parents[level]
        assert (np.diff(parents) >= 0).all()
        assert set(parents.tolist()) == set(range(tree.sizes[level - 1]))
        assert (parents[cluster_ids[:, level]] == cluster_ids[:, level - 1]).all()


def test_clusters_follow_topics_where_these_carry_equal_traffic():
    topic = np.arange(400) % 4
    noise = 0.1 * np.random.default_rng(0).normal(size=(400, 8))
    embeddings = np.eye(8)[topic] + noise
    tree = fit_cluster_tree(embeddings, np.ones(400), (4,))
    cluster_of_topic = assign_clusters(tree, embeddings)[:4, 0]
    assert len(set(cluster_of_topic.tolist())) == 4
    assert (assign_clusters(tree, embeddings)[:, 0] == cluster_of_topic[topic]).all()


def test_a_fit_is_reproducible_to_the_byte():
    embeddings, traffic = topics(500), long_tail(500)
    one, other = (fit_cluster_tree(embeddings, traffic, (3, 9)) for _ in range(2))
    for mine, theirs in zip(
        (one.sites, one.prices, *one.parents),
        (other.sites, other.prices, *other.parents),
        strict=True,
    ):
        assert mine.tobytes() == theirs.tobytes()
        assert mine.dtype in (np.float32, np.int32)


@pytest.mark.parametrize("batch", [1, 7, 256])
def test_batches_are_assigned_as_all_at_once(batch):
    embeddings = topics(700)
    tree = fit_cluster_tree(embeddings[:500], np.ones(500), (4, 12, 30))
    batches = [
        assign_clusters(tree, embeddings[start : start + batch]) for start in range(0, 700, batch)
    ]
    assert (np.concatenate(batches) == assign_clusters(tree, embeddings)).all()


def test_no_items_are_assigned_to_nothing():
    tree = fit_cluster_tree(np.eye(4), np.ones(4), (2, 3))
    assert assign_clusters(tree, np.empty((0, 4), np.float32)).shape == (0, 2)


def test_only_the_direction_of_an_embedding_counts():
    embeddings = topics(300)
    tree = fit_cluster_tree(embeddings, np.ones(300), (5,))
    scales = np.random.default_rng(0).uniform(0.01, 1000, (300, 1))
    assert (assign_clusters(tree, embeddings * scales) == assign_clusters(tree, embeddings)).all()


def test_assignment_is_to_the_cheapest_site_and_all_above_it():
    embeddings = topics(300)
    tree = fit_cluster_tree(embeddings, long_tail(300), (3, 10))
    rows = embeddings.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for item, cluster_ids in zip(rows, assign_clusters(tree, embeddings), strict=True):
        scores = ((item - tree.sites) ** 2).sum(1) + tree.prices
        assert scores[cluster_ids[1]] <= scores.min() + 2e-3  # the grid of embeddings
        assert cluster_ids[0] == tree.parents[1][cluster_ids[1]]


def test_a_capped_assignment_costs_as_little_as_the_best_of_all_with_its_loads():
    rng = np.random.default_rng(3)
    costs = rng.random((7, 3))
    cap = Cap(np.ones(7), np.arange(3), np.array([2.0, 2.0, 3.0]))
    found = capped_prices(cheapest(costs), np.zeros(3), [cap], [np.zeros(3)])
    assert found is not None
    _, prices, labels, error = found
    assert error == 0
    assert (labels == (costs + prices).argmin(1)).all()
    assert np.bincount(labels).tolist() == [2, 2, 3]
    every = (
        np.array(choice)
        for choice in itertools.product(range(3), repeat=7)
        if [choice.count(cluster) for cluster in range(3)] == [2, 2, 3]
    )
    best = min(costs[np.arange(7), choice].sum() for choice in every)
    assert costs[np.arange(7), labels].sum() == pytest.approx(best)


def test_where_nothing_is_overfull_items_go_to_the_nearest():
    costs = np.random.default_rng(0).random((9, 3))
    cap = Cap(np.ones(9), np.arange(3), np.full(3, 9.0))
    found = capped_prices(cheapest(costs), np.zeros(3), [cap], [np.zeros(3)])
    assert found is not None
    assert (found[2] == costs.argmin(1)).all()


def test_a_level_above_has_caps_of_its_own():
    costs = np.random.default_rng(0).random((40, 4))
    costs[:, 2:] += 0.5
    caps = [
        Cap(np.ones(40), np.arange(4), np.full(4, 40.0)),
        Cap(np.ones(40), np.array([0, 0, 1, 1]), np.full(2, 24.0)),
    ]
    found = capped_prices(cheapest(costs), np.zeros(4), caps, [np.zeros(4), np.zeros(2)])
    assert found is not None
    assert np.bincount(found[2] // 2).max() <= 24 * 1.02


def test_a_start_that_needs_no_change_is_kept():
    embeddings, traffic = topics(900), long_tail(900)
    tree = fit_cluster_tree(embeddings, traffic, (3, 9, 18))
    before = assign_clusters(tree, embeddings)
    again = fit_cluster_tree(
        embeddings, traffic, (3, 9, 18), start=(before[:, -1].astype(int), tree.parents)
    )
    assert (assign_clusters(again, embeddings) == before).mean() > 0.97


def test_a_start_with_items_unknown_and_a_cluster_gone_fills_every_cluster():
    embeddings = topics(400)
    tree = fit_cluster_tree(embeddings, np.ones(400), (2, 8))
    finest = assign_clusters(tree, embeddings)[:, 1].astype(int)
    kept = finest != 3
    start = np.where(np.arange(400) % 5 == 0, -1, finest)[kept]
    again = fit_cluster_tree(
        embeddings[kept], np.ones(kept.sum()), (2, 8), start=(start, tree.parents)
    )
    assert_every_cluster_has_an_item(again, assign_clusters(again, embeddings[kept]))


def test_an_item_that_stands_for_many_counts_as_many():
    embeddings, traffic, times = topics(60), long_tail(60) + 1, np.arange(60) % 4 + 1
    one = fit_cluster_tree(embeddings, traffic, (2, 5), times)
    many = fit_cluster_tree(np.repeat(embeddings, times, 0), np.repeat(traffic, times), (2, 5))
    assert (assign_clusters(one, embeddings) == assign_clusters(many, embeddings)).all()


def test_a_fit_on_a_sample_by_traffic_is_balanced_on_all_items():
    embeddings, traffic = topics(100_000, 60, 16), long_tail(100_000)
    traffic = np.minimum(traffic, 2_000)
    hashes = np.random.default_rng(5).integers(2**64, size=100_000, dtype=np.uint64)
    keys = sample_keys(hashes, traffic)
    kept = smallest(keys, 10_000)
    times = times_drawn(keys[kept], traffic[kept], 10_000)
    drawn = kept[times > 0]
    tree = fit_cluster_tree(embeddings[drawn], traffic[drawn], (8, 16, 32), times[times > 0])
    cluster_ids = assign_clusters(tree, embeddings)
    for level, size in enumerate((8, 16, 32)):
        assert traffic_balance(np.bincount(cluster_ids[:, level], traffic, size)) <= 1.5


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1000)), min_size=3, max_size=60),
    st.lists(st.integers(1, 8), min_size=1, max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_duplicates_and_skewed_traffic_leave_no_cluster_empty(items, sizes):
    kinds, traffic = (np.array(column) for column in zip(*items, strict=True))
    angles = np.random.default_rng(0).permutation(13)[kinds] / 7
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    sizes = (*sorted(sizes), max(3, *sizes))
    if (distinct := len(set(kinds.tolist()))) < sizes[-1]:
        with pytest.raises(ValueError, match=rf"{distinct} distinct.* {sizes[-1]} clusters"):
            fit_cluster_tree(embeddings, traffic, sizes)
        return
    tree = fit_cluster_tree(embeddings, traffic, sizes)
    cluster_ids = assign_clusters(tree, embeddings)
    assert_every_cluster_has_an_item(tree, cluster_ids)
    for kind in set(kinds.tolist()):
        assert len(np.unique(cluster_ids[kinds == kind], axis=0)) == 1


def test_as_many_clusters_as_distinct_embeddings_are_possible():
    embeddings = np.repeat(topics(40), 25, axis=0)
    tree = fit_cluster_tree(embeddings, np.arange(1000), (4, 20, 40))
    assert_every_cluster_has_an_item(tree, assign_clusters(tree, embeddings))


def test_an_item_heavier_than_a_cluster_gets_its_own_and_leaves_the_rest_balanced():
    embeddings, traffic = topics(1_000), np.ones(1_000)
    traffic[7] = 1_000
    tree = fit_cluster_tree(embeddings, traffic, (2, 4, 16))
    finest = assign_clusters(tree, embeddings)[:, 2]
    assert (finest == finest[7]).sum() == 1
    others = finest != finest[7]
    assert np.bincount(finest[others], traffic[others]).max() <= 1.5 * 999 / 15


def test_a_heavy_item_claims_no_further_clusters_for_its_neighbours():
    embeddings, traffic = topics(1_001), np.ones(1_001)
    traffic[7] = 300
    tree = fit_cluster_tree(embeddings, traffic, (2, 16))
    finest = assign_clusters(tree, embeddings)[:, 1]
    others = finest != finest[7]
    assert np.bincount(finest[others], traffic[others]).max() <= 1.5 * 1_000 / 15


def test_what_an_overfull_cluster_holds_beside_its_heavy_item_goes_elsewhere():
    embeddings, traffic = topics(303, seed=8), np.ones(303)
    traffic[0] = 200
    embeddings[1:4] = embeddings[0] + 0.2 * topics(3, seed=107)
    tree = fit_cluster_tree(embeddings, traffic, (4,))
    cluster_ids = assign_clusters(tree, embeddings)[:, 0]
    assert np.bincount(cluster_ids, traffic).max() == 200


def test_a_level_makes_room_for_uneven_numbers_of_children():
    embeddings = topics(3_000)
    tree = fit_cluster_tree(embeddings, np.ones(3_000), (8, 12))
    cluster_ids = assign_clusters(tree, embeddings)
    for level, size in enumerate((8, 12)):
        assert traffic_balance(np.bincount(cluster_ids[:, level], np.ones(3_000), size)) <= 1.5


def test_embeddings_that_differ_by_noise_are_the_same():
    embeddings = np.array([[1, 0, 0], [1, 1e-8, 0], [1, 0, 1e-8], [0, 0, 1]])
    with pytest.raises(ValueError, match="4 items have 2 distinct embeddings"):
        fit_cluster_tree(embeddings, np.ones(4), (3,))


def test_items_without_any_traffic_are_balanced_by_number():
    embeddings = topics(400)
    tree = fit_cluster_tree(embeddings, np.zeros(400), (8,))
    cluster_ids = assign_clusters(tree, embeddings)[:, 0]
    assert traffic_balance(np.bincount(cluster_ids, minlength=8)) <= 1.5


@pytest.mark.parametrize("sizes", [(), (2,), (8, 4), (0, 5), (-1, 3)])
def test_impossible_sizes_are_named(sizes):
    with pytest.raises(ValueError, match="cluster sizes"):
        fit_cluster_tree(topics(50), np.ones(50), sizes)


def test_values_that_are_not_finite_are_refused():
    embeddings = topics(50)
    with pytest.raises(ValueError, match="traffic must be finite"):
        fit_cluster_tree(embeddings, np.full(50, -1.0), (3,))
    with pytest.raises(ValueError, match="shape"):
        fit_cluster_tree(embeddings, np.ones(49), (3,))
    embeddings[3, 3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        fit_cluster_tree(embeddings, np.ones(50), (3,))


def test_embeddings_of_another_encoder_are_refused():
    tree = fit_cluster_tree(topics(50), np.ones(50), (3,))
    with pytest.raises(ValueError, match="16 dimensions, the tree 32"):
        assign_clusters(tree, topics(5, dimensions=16))


@given(st.data())
def test_seats_are_apportioned_within_bounds_and_one_of_the_quota_where_these_are_slack(data):
    votes = np.array(data.draw(st.lists(st.integers(1, 1000), min_size=1, max_size=8)), float)
    low = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(votes), max_size=len(votes))))
    high = low + data.draw(st.integers(0, 9))
    seats = data.draw(st.integers(int(low.sum()), int(high.sum())))
    given_out = apportion(seats, votes, low, high)
    assert given_out.sum() == seats
    assert (low <= given_out).all()
    assert (given_out <= high).all()
    free = apportion(seats, votes, np.zeros_like(low), np.full_like(low, seats))
    assert (np.abs(free - seats * votes / votes.sum()) < 1).all()


def test_balance_is_the_largest_over_the_mean_with_empty_clusters_counted():
    assert traffic_balance(np.array([3.0, 1.0])) == 1.5
    assert traffic_balance(np.array([2.0, 0.0, 0.0, 0.0])) == 4.0
    assert traffic_balance(np.zeros(2)) == 1.0
