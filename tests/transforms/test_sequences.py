"""Sequences of users, against sorting each user's rows."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from transforms import schemas as col
from transforms.sequences import user_sequences

rows = st.lists(
    st.tuples(st.sampled_from("uvw"), st.sampled_from("abcde"), st.integers(0, 4)), max_size=30
)


def interactions(rows: list[tuple[str, str, int]]) -> pa.Table:
    users, items, times = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            col.USER_ID: pa.array(users, pa.string()),
            col.ITEM_ID: pa.array(items, pa.string()),
            col.TIMESTAMP: pa.array(times, col.TIME_TYPE),
        }
    )


@given(rows)
def test_sequences_are_in_order_of_time_and_item(rows: list[tuple[str, str, int]]) -> None:
    found = {
        row["user_id"]: row["item_ids"] for row in user_sequences(interactions(rows)).to_pylist()
    }
    expected = {
        user: [
            item for _, item in sorted((time, item) for name, item, time in rows if name == user)
        ]
        for user in {row[0] for row in rows}
    }
    assert found == expected
