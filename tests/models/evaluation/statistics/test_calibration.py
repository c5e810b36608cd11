"""Reliability against counting predictions one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.statistics.calibration import BINS, reliability_sums

M = 4
prediction = st.tuples(
    st.integers(-1, M - 1), st.sampled_from([0.0, 1e-6, 2.0**-11, 0.25, 0.3, 0.5, 1.0])
)


@given(
    st.lists(
        st.tuples(st.lists(prediction, min_size=2, max_size=2), st.integers(0, M - 1)), min_size=1
    )
)
@settings(deadline=None)  # the first call imports scipy.stats
def test_bins_are_of_all_predictions(rows: list) -> None:
    listed = np.array([[cluster for cluster, _ in pair] for pair, _ in rows])
    p = np.array([[value for _, value in pair] for pair, _ in rows], np.float32)
    sums = reliability_sums(listed, p, np.array([novel for _, novel in rows]))
    by_bin: dict[int, list[tuple[float, bool]]] = {}
    for pair, novel in rows:
        for cluster, value in pair:
            if cluster >= 0:
                b = next((b for b in range(BINS) if value >= 2.0 ** -(b + 1)), BINS - 1)
                by_bin.setdefault(b, []).append((value, cluster == novel))
    bins = sums.bins(0)
    assert all(0 <= one["low"] <= one["observed"] + 1e-6 for one in bins)
    assert all(one["observed"] - 1e-6 <= one["high"] <= 1 for one in bins)
    assert [
        {key: one[key] for key in ("probability", "observed", "predictions")} for one in bins
    ] == [
        {
            "probability": pytest.approx(np.mean([value for value, _ in of_bin]), abs=1e-6),
            "observed": pytest.approx(np.mean([hit for _, hit in of_bin]), abs=1e-6),
            "predictions": len(of_bin),
        }
        for _, of_bin in sorted(by_bin.items(), reverse=True)
    ]
    predictions = sum(map(len, by_bin.values()))
    error = sum(abs(sum(hit - value for value, hit in of_bin)) for of_bin in by_bin.values())
    assert sums.expected_calibration_error() == pytest.approx(error / max(1, predictions), abs=1e-6)


def test_the_interval_of_a_share_is_wilsons() -> None:
    """One of two: (1/2 + z^2 / 4 -+ z sqrt(1/8 + z^2 / 16)) / (1 + z^2 / 2), z = 1.96."""
    sums = reliability_sums(np.array([[0], [1]]), np.full((2, 1), 0.9), np.array([0, 0]))
    (one,) = sums.bins(0)
    assert (one["low"], one["high"]) == pytest.approx((0.0945, 0.9055), abs=1e-4)


def test_small_bins_are_left_out() -> None:
    sums = reliability_sums(
        np.array([[0], [1], [0]]), np.array([[0.9], [0.9], [0.1]]), np.array([0, 0, 0])
    )
    assert [one["predictions"] for one in sums.bins(2)] == [2]
