"""From the answers of the SavedModel to rows."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from transforms.recommend import batches, padded, recommendations


def test_padding_goes_and_users_without_a_novel_cluster_have_no_row() -> None:
    answer = {
        "novel_cluster": np.array([4, -1], np.int32),
        "c1": np.array([1, -1], np.int32),
        "c2": np.array([2, -1], np.int32),
        "probability": np.array([0.5, 0], np.float32),
        "item_ids": np.array([["ä".encode(), b""], [b"", b""]], object),
        "propensity": np.array([0.25, 1], np.float32),
        "scores": np.array([[1.5, -np.inf], [-np.inf, -np.inf]], np.float32),
    }
    assert recommendations(pa.array(["u", "v"]), answer).to_pylist() == [
        {
            "user_id": "u",
            "novel_cluster": 4,
            "c1": 1,
            "c2": 2,
            "probability": 0.5,
            "item_ids": ["ä"],
            "scores": [1.5],
            "propensity": 0.25,
        }
    ]


@given(st.lists(st.lists(st.text(max_size=3), max_size=4), max_size=5), st.integers(0, 2))
def test_padded_histories_are_the_lists_in_order(histories: list[list[str]], skipped: int) -> None:
    longest = max(map(len, histories[skipped:]), default=0)
    rows = [history + [""] * (longest - len(history)) for history in histories[skipped:]]
    array = padded(pa.array(histories, pa.list_(pa.string())).slice(skipped))
    assert array.shape == (len(rows), longest)
    assert array.tolist() == rows


@given(st.lists(st.integers(1, 10_000_000), max_size=600))
def test_batches_cover_all_users_within_bounds(lengths: list[int]) -> None:
    lengths = sorted(lengths)
    cuts = list(batches(np.array(lengths, np.int32)))
    assert [row for start, stop in cuts for row in range(start, stop)] == list(range(len(lengths)))
    for start, stop in cuts:
        assert stop - start <= 256
        assert stop - start == 1 or (stop - start) * lengths[stop - 1] <= 1 << 18


def test_a_heavy_user_is_alone() -> None:
    assert list(batches(np.array([1, 2, 1_000_000], np.int32))) == [(0, 2), (2, 3)]


def test_however_heavy_a_user_is_the_padding_is_counted() -> None:
    lengths = np.array([5] * 255 + [8_500_000], np.int32)  # 256 times it is above 2^31
    assert list(batches(lengths)) == [(0, 255), (255, 256)]
