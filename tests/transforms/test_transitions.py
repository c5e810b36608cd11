"""Mining, against an implementation straight from the definition."""

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from transforms import schemas as col
from transforms.sequences import user_sequences
from transforms.transitions import (
    count_transitions,
    diversify,
    mine_by_split,
    mine_transitions,
    split_users,
    sum_counts,
    user_splits,
)

Row = tuple[str, str, int]  # user, item, time

# Few users, items and moments: ties, repeats and revisits are the rule. An item has one cluster.
ITEMS = [f"item{number:02d}" for number in range(12)]
CLUSTERS = np.arange(12, dtype=np.int32) % 5
rows = st.lists(
    st.tuples(st.sampled_from("uvwé"), st.sampled_from(ITEMS), st.integers(0, 6)), max_size=60
)


def sequences(rows: list[Row]) -> pa.Table:
    users, items, times = zip(*rows, strict=True) if rows else ((), (), ())
    columns = [
        pa.array(users, pa.string()),
        pa.array(times, col.TIME_TYPE),
        pa.nulls(len(rows), pa.float32()),
        pa.array([ITEMS.index(item) for item in items], pa.int32()),
    ]
    return user_sequences(pa.table(columns, schema=col.INTERACTIONS))


def oracle(rows: list[Row], earlier: int = 2) -> list[tuple]:
    """Walk through each user's engagements and remember when each cluster was last seen."""
    found = []
    for user in sorted({row[0] for row in rows}):
        latest: dict[int, int] = {}  # cluster -> number of its latest engagement
        own = sorted((time, item) for name, item, time in rows if name == user)
        for number, (time, item) in enumerate(own):
            cluster = int(CLUSTERS[ITEMS.index(item)])
            if latest and cluster not in latest:
                known = sorted(latest, key=lambda one: latest[one])[-earlier:]
                missing = [known[0]] * (earlier - len(known))
                found.append((user, time, *missing, *known, cluster))
            latest[cluster] = number
    return found


def rows_of(transitions: pa.Table) -> list[tuple]:
    times = transitions["timestamp"].cast(pa.int64())
    plain = transitions.set_column(1, "timestamp", times)
    return [tuple(row.values()) for row in plain.to_pylist()]


@given(rows, st.integers(1, 4))
def test_mining_finds_the_transitions_of_the_definition(rows: list[Row], earlier: int) -> None:
    mined = mine_transitions(sequences(rows), CLUSTERS, earlier)
    assert rows_of(mined) == oracle(rows, earlier)


@given(st.lists(st.tuples(st.just("u"), st.sampled_from(ITEMS[:5]), st.integers(0, 999))))
def test_clusters_revisited_again_and_again_are_searched_through(rows: list[Row]) -> None:
    assert rows_of(mine_transitions(sequences(rows), CLUSTERS, 4)) == oracle(rows, 4)


@given(rows, st.randoms())
def test_mining_does_not_depend_on_the_order_of_rows(rows: list[Row], random) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    mined = mine_transitions(sequences(shuffled), CLUSTERS)
    assert mined.equals(mine_transitions(sequences(rows), CLUSTERS))


def test_transitions_have_the_schema() -> None:
    assert mine_transitions(sequences([]), CLUSTERS).schema == col.TRANSITIONS


def test_one_earlier_cluster_counts_as_both() -> None:
    seen = [("u", "item00", 1), ("u", "item05", 2), ("u", "item03", 3)]
    assert rows_of(mine_transitions(sequences(seen), CLUSTERS)) == [("u", 3, 0, 0, 3)]


def test_clusters_are_ordered_by_their_latest_engagement() -> None:
    seen = [("u", f"item0{cluster}", time) for time, cluster in enumerate([0, 1, 0, 2])]
    assert rows_of(mine_transitions(sequences(seen), CLUSTERS))[-1] == ("u", 3, 1, 0, 2)


@given(rows)
def test_counts_of_parts_add_up_to_the_counts_of_all(rows: list[Row]) -> None:
    parts = [[row for row in rows if row[0] in users] for users in ("uv", "wé")]
    counted = [count_transitions(mine_transitions(sequences(part), CLUSTERS)) for part in parts]
    counts = count_transitions(mine_transitions(sequences(rows), CLUSTERS))
    assert sum_counts(pa.concat_tables(counted)).equals(counts)


@given(rows)
def test_counts_are_of_users(rows: list[Row]) -> None:
    counts = count_transitions(mine_transitions(sequences(rows), CLUSTERS)).to_pylist()
    expected = Counter(found[2:] for found in oracle(rows))
    assert {(row["c1"], row["c2"], row["novel"]): row["users"] for row in counts} == expected


@given(rows)
def test_counts_are_sorted_by_label_and_pair(rows: list[Row]) -> None:
    counts = count_transitions(mine_transitions(sequences(rows), CLUSTERS)).to_pylist()
    assert counts == sorted(counts, key=lambda row: (row["novel"], row["c1"], row["c2"]))


counts = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), unique=True, max_size=60
).map(
    lambda rows: pa.table(
        [
            *(pa.array([row[i] for row in rows], pa.int32()) for i in range(3)),
            pa.array([1] * len(rows), pa.int64()),
        ],
        schema=col.TRANSITION_COUNTS,
    )
)


@given(counts, st.integers(1, 5))
def test_diversifying_keeps_min_of_cap_and_all_pairs_of_each_label(
    table: pa.Table, per_label: int
) -> None:
    kept = Counter(diversify(table, per_label, seed=1)["novel"].to_pylist())
    every = Counter(table["novel"].to_pylist())
    assert kept == {label: min(per_label, pairs) for label, pairs in every.items()}


@given(counts, st.randoms())
def test_diversifying_does_not_depend_on_the_order_of_rows(table: pa.Table, random) -> None:
    order = list(range(table.num_rows))
    random.shuffle(order)
    shuffled = table.take(pa.array(order, pa.int64()))
    assert diversify(shuffled, 2, seed=1).equals(diversify(table, 2, seed=1))


def test_diversifying_samples_other_pairs_with_another_seed() -> None:
    pairs = pa.table(
        [
            pa.array(range(100), pa.int32()),
            pa.array([200] * 100, pa.int32()),
            pa.array([300] * 100, pa.int32()),
            pa.array([1] * 100, pa.int64()),
        ],
        schema=col.TRANSITION_COUNTS,
    )
    assert not diversify(pairs, 10, seed=1).equals(diversify(pairs, 10, seed=2))


def test_splits_have_about_the_shares_asked_for() -> None:
    users = pa.array([f"user {number}" for number in range(20_000)])
    split = Counter(split_users(users, valid_share=0.1, test_share=0.2, seed=3).to_pylist())
    assert abs(split["valid"] / 20_000 - 0.1) < 0.01
    assert abs(split["test"] / 20_000 - 0.2) < 0.01


@given(rows)
def test_every_user_is_in_one_split(rows: list[Row]) -> None:
    users = user_splits(sequences(rows), 0.3, 0.3, seed=0)["user_id"].to_pylist()
    assert users == sorted({row[0] for row in rows})


@given(rows)
def test_transitions_go_to_the_split_of_their_user(rows: list[Row]) -> None:
    splits = user_splits(sequences(rows), 0.3, 0.3, seed=0).to_pylist()
    split_of = {row["user_id"]: row["split"] for row in splits}
    found = [
        (tagged.tag, *row)
        for tagged in mine_by_split(sequences(rows), CLUSTERS, 0.3, 0.3, seed=0)
        for row in rows_of(tagged.value)
    ]
    assert sorted(found) == sorted((split_of[row[0]], *row) for row in oracle(rows))
