import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.clustering.cluster_tree import assign_clusters, traffic_balance
from models.clustering.fit_cluster_tree import fit_cluster_tree
from models.clustering.item_floor import filled
from models.clustering.power_diagram import nearest
from models.common.unit_vectors import unit_rows


def held(
    points: np.ndarray, sites: np.ndarray, prices: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    return np.bincount(nearest(points, sites, prices), counts, len(sites))


@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.integers(1, 5))
@settings(max_examples=50, derandomize=True, deadline=None)
def test_clusters_get_the_items_that_they_miss_where_there_are_enough(
    seed: int, clusters: int, least: int
) -> None:
    rng = np.random.default_rng(seed)
    points = unit_rows(rng.normal(size=(60, 4))).astype(np.float32)
    sites = rng.normal(size=(clusters, 4)).astype(np.float32)
    prices = rng.normal(size=clusters).astype(np.float32)
    counts = rng.integers(1, 4, 60).astype(np.float64)
    fuller = filled(points, sites, prices, counts, least)
    assert (held(points, sites, fuller, counts) >= least).all()
    enough = held(points, sites, prices, counts) >= least
    if enough.all():
        assert fuller is prices


def test_the_nearest_items_are_taken() -> None:
    angles = np.linspace(0, 1, 11)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    sites, prices = points[[0, 10]], np.array([2.0, 0.0], np.float32)
    assert nearest(points, sites, prices).tolist() == [1] * 11
    fuller = filled(points, sites, prices, np.ones(11), 3)
    assert nearest(points, sites, fuller).tolist() == [0] * 3 + [1] * 8


def test_a_cluster_of_much_traffic_has_neighbours_and_the_others_stay_balanced() -> None:
    """One item has the traffic of several clusters: alone, it left nothing more to recommend."""
    rng = np.random.default_rng(0)
    embeddings = (rng.normal(size=(10, 16))[rng.integers(10, size=2_000)]) + 0.3 * rng.normal(
        size=(2_000, 16)
    )
    traffic = np.floor(rng.pareto(1.5, 2_000) * 2)
    traffic[7] = traffic.sum() / 10
    loads, smallest = [], []
    for least in (1, 10):
        tree = fit_cluster_tree(embeddings, traffic, (5, 20), least_items=least)
        cluster = assign_clusters(tree, embeddings)[:, 1]
        smallest.append(np.bincount(cluster, minlength=20).min())
        loads.append(traffic_balance(np.bincount(cluster, traffic, 20)))
    assert smallest[0] == 1
    assert smallest[1] >= 10
    assert loads[1] < 1.2 * loads[0]
