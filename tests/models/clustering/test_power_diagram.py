import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.clustering.power_diagram import PowerDiagram, costs, nearest
from models.common.unit_vectors import unit_rows


def points_and_sites(points: int, sites: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return unit_rows(rng.normal(size=(points, 6))), rng.normal(size=(sites, 6)).astype(np.float32)


def test_costs_are_squared_distances_less_the_points_squared_length():
    points, sites = points_and_sites(20, 5)
    distances = ((points[:, None] - sites[None]) ** 2).sum(2)
    expected = distances - (points**2).sum(1)[:, None]
    np.testing.assert_allclose(costs(points, sites), expected, atol=1e-5)


def test_a_site_that_may_not_be_taken_is_not():
    points, sites = points_and_sites(50, 4)
    labels = nearest(points, sites, np.array([0, np.inf, 0, np.inf]))
    assert (labels == 2 * costs(points, sites[::2]).argmin(1)).all()


@given(
    st.integers(1, 80),
    st.lists(st.sampled_from([0.0, 0.01, 0.3, 2.0, 20.0]), min_size=1, max_size=8),
    st.integers(0, 99),
)
@settings(deadline=None)
def test_under_changing_prices_the_nearest_sites_are_those_of_a_look_at_all(count, scales, seed):
    points, sites = points_and_sites(60, count, seed)
    sites[count // 2] = sites[0]  # equals
    rng = np.random.default_rng(seed)
    prices = rng.normal(size=count).astype(np.float32)
    labels_under = PowerDiagram(points, sites, prices)
    for scale in scales:
        prices = (prices + scale * rng.normal(size=count)).astype(np.float32)
        assert (labels_under(prices) == nearest(points, sites, prices)).all()
