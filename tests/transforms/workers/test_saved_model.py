"""Histories in batches."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from transforms.workers.saved_model import batches, in_batches, padded


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


@given(st.lists(st.lists(st.text(max_size=2), max_size=400), max_size=300), st.randoms())
def test_batches_are_the_same_whatever_the_order(histories: list[list[str]], random) -> None:
    rows = [{"user_id": str(user), "item_ids": items} for user, items in enumerate(histories)]
    schema = pa.schema({"user_id": pa.string(), "item_ids": pa.list_(pa.string())})
    shuffled = random.sample(rows, len(rows))
    one, other = (
        [(some.to_pylist(), history.tolist()) for some, history in in_batches(table, "user_id")]
        for table in (pa.Table.from_pylist(some, schema) for some in (rows, shuffled))
    )
    assert one == other
    assert [row for some, _ in one for row in some] == sorted(
        rows, key=lambda row: (len(row["item_ids"]), row["user_id"])
    )
    for some, history in one:
        assert [row["item_ids"] for row in some] == [
            items[: len(row["item_ids"])] for row, items in zip(some, history, strict=True)
        ]
