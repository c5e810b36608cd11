"""Mining, against an implementation straight from the definition."""

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from transforms import schemas as col
from transforms.diversify import Sampling, diversify
from transforms.transitions import (
    ENGAGEMENTS,
    count_transitions,
    engagements,
    mine_by_split,
    mine_transitions,
    split_users,
    sum_counts,
    user_splits,
)

Row = tuple[str, str, int, int]  # user, item, time, cluster
Found = tuple[str, int, int, int, int]  # user, c1, c2, novel, time
CUT = 3
SHARES = (0.3, 0.3)
USERS, SEED = "uvwé", 29  # in train, train, valid and test

# Few users, items and moments: ties, repeats and revisits are the rule. An item has one cluster.
rows = st.lists(
    st.tuples(st.sampled_from(USERS), st.integers(0, 11), st.integers(0, 6)).map(
        lambda row: (row[0], f"item{row[1]}", row[2], row[1] % 5)
    ),
    max_size=60,
)


def table(rows: list[Row]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [[], [], [], []]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, ENGAGEMENTS, strict=True)],
        schema=ENGAGEMENTS,
    )


def found(transitions: pa.Table) -> list[Found]:
    times = transitions[col.TIMESTAMP].cast(pa.int64())
    at = transitions.schema.get_field_index(col.TIMESTAMP)
    whole = transitions.set_column(at, col.TIMESTAMP, times)
    return [tuple(row.values()) for row in whole.to_pylist()]


def oracle(rows: list[Row]) -> list[Found]:
    """Walk through each user's engagements and remember when each cluster was last seen."""
    found = []
    for user in sorted({row[0] for row in rows}):
        latest: dict[int, int] = {}  # cluster -> number of its latest engagement
        own = sorted((time, item, cluster) for name, item, time, cluster in rows if name == user)
        for number, (time, _, cluster) in enumerate(own):
            if latest and cluster not in latest:
                known = sorted(latest, key=lambda one: latest[one])
                c1, c2 = known[-2:] if len(known) > 1 else (known[0], known[0])
                found.append((user, c1, c2, cluster, time))
            latest[cluster] = number
    return found


@given(rows)
def test_mining_finds_the_transitions_of_the_definition(rows: list[Row]) -> None:
    assert found(mine_transitions(table(rows))) == oracle(rows)


@given(rows, st.randoms())
def test_mining_does_not_depend_on_the_order_of_rows(rows: list[Row], random) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert mine_transitions(table(shuffled)).equals(mine_transitions(table(rows)))


def test_one_earlier_cluster_counts_as_both() -> None:
    mined = mine_transitions(table([("u", "a", 1, 7), ("u", "b", 2, 7), ("u", "c", 3, 4)]))
    assert found(mined) == [("u", 7, 7, 4, 3)]


def test_clusters_are_ordered_by_their_latest_engagement() -> None:
    seen = [("u", "a", 1, 0), ("u", "b", 2, 1), ("u", "a", 3, 0), ("u", "c", 4, 2)]
    last = mine_transitions(table(seen)).to_pylist()[-1]
    assert (last["c1"], last["c2"], last["novel"]) == (1, 0, 2)


def test_engagements_look_clusters_up_by_item() -> None:
    interactions = pa.table(
        [["u", "u"], ["b", "a"], pa.array([1, 2], col.TIME_TYPE), [None, None], [1, 0]],
        schema=col.INTERACTIONS,
    )
    found = engagements(interactions, np.array([5, 9], np.int32))
    assert found["cluster"].to_pylist() == [9, 5]


@given(rows)
def test_counts_of_parts_add_up_to_the_counts_of_all(rows: list[Row]) -> None:
    parts = [[row for row in rows if row[0] in users] for users in ("uv", "wé")]
    counted = pa.concat_tables([count_transitions(mine_transitions(table(part))) for part in parts])
    assert sum_counts(counted).equals(count_transitions(mine_transitions(table(rows))))


@given(rows)
def test_counts_are_of_users(rows: list[Row]) -> None:
    counts = count_transitions(mine_transitions(table(rows))).to_pylist()
    expected = Counter(row[1:4] for row in oracle(rows))
    assert {(row["c1"], row["c2"], row["novel"]): row["users"] for row in counts} == expected


def test_splits_have_about_the_shares_asked_for() -> None:
    users = pa.array([f"user {number}" for number in range(20_000)])
    split = Counter(split_users(users, valid_share=0.1, test_share=0.2, seed=3).to_pylist())
    assert abs(split["valid"] / 20_000 - 0.1) < 0.01
    assert abs(split["test"] / 20_000 - 0.2) < 0.01


@given(rows)
def test_every_user_is_in_one_split(rows: list[Row]) -> None:
    users = user_splits(table(rows), 0.3, 0.3, seed=0)["user_id"].to_pylist()
    assert users == sorted({row[0] for row in rows})


def by_split(rows: list[Row], cut: int | None = None) -> dict[str, pa.Table]:
    return {tagged.tag: tagged.value for tagged in mine_by_split(table(rows), *SHARES, SEED, cut)}


def split_of(rows: list[Row]) -> dict[str, str]:
    splits = user_splits(table(rows), *SHARES, SEED).to_pylist()
    return {row["user_id"]: row["split"] for row in splits}


@given(rows)
def test_transitions_go_to_the_split_of_their_user(rows: list[Row]) -> None:
    mined = {split: found(transitions) for split, transitions in by_split(rows).items()}
    splits = split_of(rows)
    assert mined == {
        split: [row for row in oracle(rows) if splits[row[0]] == split]
        for split in ("train", "valid", "test")
    }


@given(rows)
def test_a_cut_divides_training_from_what_is_asked(rows: list[Row]) -> None:
    mined = {split: found(transitions) for split, transitions in by_split(rows, CUT).items()}
    splits = split_of(rows)
    assert mined == {
        split: [
            row
            for row in oracle(rows)
            if splits[row[0]] == split and (row[4] < CUT) == (split == "train")
        ]
        for split in ("train", "valid", "test")
    }


def trained_on(rows: list[Row], cut: int | None = None) -> tuple[pa.Table, pa.Table]:
    """Return the counts and the training examples of a log."""
    counts = sum_counts(count_transitions(by_split(rows, cut)["train"]))
    return counts, diversify(counts, Sampling("weighted", 2, 5, seed=0))


@given(rows, rows)
def test_nothing_after_the_cut_reaches_training(rows: list[Row], others: list[Row]) -> None:
    history = [row for row in rows if row[2] < CUT]
    later = [row for row in others if row[2] >= CUT]
    assert trained_on([*later, *history], CUT) == trained_on(rows, CUT)


@given(rows, rows)
def test_no_test_user_reaches_training(rows: list[Row], others: list[Row]) -> None:
    splits = split_of([*rows, *others])
    of_others = [row for row in others if splits[row[0]] != "train"]
    of_train = [row for row in rows if splits[row[0]] == "train"]
    assert trained_on([*of_others, *of_train]) == trained_on(rows)


def test_users_of_the_tests_are_in_different_splits() -> None:
    splits = split_of([(user, "item0", 0, 0) for user in USERS])
    assert [splits[user] for user in USERS] == ["train", "train", "valid", "test"]
