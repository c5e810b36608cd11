"""Mining, against an implementation straight from the definition."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.transitions.ties import tie_key
from transforms import schemas as col
from transforms.inputs.filters import filter_engagements
from transforms.transitions.diversify import Sampling, diversify
from transforms.transitions.mine import (
    count_transitions,
    mine_by_split,
    mine_transitions,
    sum_counts,
)
from transforms.transitions.splits import SplitSpec
from transforms.transitions.user_sequences import user_sequences

Row = tuple[str, str, int]  # user, item, time
Found = tuple  # user, c1, ..., cK, novel, time
CUT = 3
SPEC = SplitSpec(valid_share=0.3, test_share=0.3, seed=13, cut=None)
USERS = "uvwé"  # in train, train, valid and test

# Few users, items and moments: ties, repeats and revisits are the rule. An item has one cluster.
ITEMS = [f"item{number:02d}" for number in range(12)]
CLUSTERS = np.arange(12, dtype=np.int32) % 5
rows = st.lists(
    st.tuples(st.sampled_from(USERS), st.sampled_from(ITEMS), st.integers(0, 6)), max_size=60
)


def interactions(rows: list[Row], ratings: list[float] | None = None) -> pa.Table:
    users, items, times = zip(*rows, strict=True) if rows else ((), (), ())
    columns = [
        pa.array(users, pa.string()),
        pa.array(times, col.TIME_TYPE),
        pa.array(ratings or [None] * len(rows), pa.float32()),
        pa.array([ITEMS.index(item) for item in items], pa.int32()),
    ]
    return pa.table(columns, schema=col.INTERACTIONS)


def sequences(rows: list[Row]) -> pa.Table:
    return user_sequences(interactions(rows), pa.array(ITEMS), seed=0)


def found(transitions: pa.Table) -> list[Found]:
    times = transitions[col.TIMESTAMP].cast(pa.int64())
    at = transitions.schema.get_field_index(col.TIMESTAMP)
    whole = transitions.set_column(at, col.TIMESTAMP, times)
    return [tuple(row.values()) for row in whole.to_pylist()]


def oracle(rows: list[Row], earlier: int = 2) -> list[Found]:
    """Walk through each user's engagements and remember when each cluster was last seen."""
    found = []
    for user in sorted({row[0] for row in rows}):
        latest: dict[int, int] = {}  # cluster -> number of its latest engagement
        own = sorted((time, tie_key(user, item), item) for name, item, time in rows if name == user)
        for number, (time, _, item) in enumerate(own):
            cluster = int(CLUSTERS[ITEMS.index(item)])
            if latest and cluster not in latest:
                known = sorted(latest, key=lambda one: latest[one])[-earlier:]
                missing = [known[0]] * (earlier - len(known))
                found.append((user, *missing, *known, cluster, time))
            latest[cluster] = number
    return found


@given(rows, st.integers(1, 4))
def test_mining_finds_the_transitions_of_the_definition(rows: list[Row], earlier: int) -> None:
    assert found(mine_transitions(sequences(rows), CLUSTERS, earlier)) == oracle(rows, earlier)


@given(st.lists(st.tuples(st.just("u"), st.sampled_from(ITEMS[:5]), st.integers(0, 999))))
def test_clusters_revisited_again_and_again_are_searched_through(rows: list[Row]) -> None:
    assert found(mine_transitions(sequences(rows), CLUSTERS, 4)) == oracle(rows, 4)


@given(rows, st.lists(st.sampled_from([1.0, 5.0]), min_size=60, max_size=60))
def test_what_a_user_did_not_like_is_no_engagement(rows: list[Row], ratings: list[float]) -> None:
    ratings = ratings[: len(rows)]
    liked = [row for row, rating in zip(rows, ratings, strict=True) if rating == 5]
    kept = filter_engagements(interactions(rows, ratings), min_rating=3)
    engaged = user_sequences(kept, pa.array(ITEMS), seed=0)
    assert found(mine_transitions(engaged, CLUSTERS)) == oracle(liked)


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
    assert found(mine_transitions(sequences(seen), CLUSTERS)) == [("u", 0, 0, 3, 3)]


def test_clusters_are_ordered_by_their_latest_engagement() -> None:
    seen = [("u", f"item0{cluster}", time) for time, cluster in enumerate([0, 1, 0, 2])]
    assert found(mine_transitions(sequences(seen), CLUSTERS))[-1] == ("u", 1, 0, 2, 3)


@given(rows)
def test_counts_of_parts_add_up_to_the_counts_of_all(rows: list[Row]) -> None:
    parts = [[row for row in rows if row[0] in users] for users in ("uv", "wé")]
    counted = [count_transitions(mine_transitions(sequences(part), CLUSTERS)) for part in parts]
    counts = count_transitions(mine_transitions(sequences(rows), CLUSTERS))
    assert sum_counts(pa.concat_tables(counted)).equals(counts)


@given(rows)
def test_counts_are_of_users(rows: list[Row]) -> None:
    counts = count_transitions(mine_transitions(sequences(rows), CLUSTERS)).to_pylist()
    expected = Counter(found[1:4] for found in oracle(rows))
    assert {(row["c1"], row["c2"], row["novel"]): row["users"] for row in counts} == expected


@given(rows)
def test_counts_are_sorted_by_label_and_pair(rows: list[Row]) -> None:
    counts = count_transitions(mine_transitions(sequences(rows), CLUSTERS)).to_pylist()
    assert counts == sorted(counts, key=lambda row: (row["novel"], row["c1"], row["c2"]))


def test_splits_have_about_the_shares_asked_for() -> None:
    users = pa.array([f"user {number}" for number in range(20_000)])
    split = Counter(SplitSpec(0.1, 0.2, 3, None).split_users(users).to_pylist())
    assert abs(split["valid"] / 20_000 - 0.1) < 0.01
    assert abs(split["test"] / 20_000 - 0.2) < 0.01


@given(rows)
def test_every_user_is_in_one_split(rows: list[Row]) -> None:
    users = SPEC.user_splits(sequences(rows))["user_id"].to_pylist()
    assert users == sorted({row[0] for row in rows})


def by_split(rows: list[Row], cut: int | None = None) -> dict[str, pa.Table]:
    return {
        tagged.tag: tagged.value
        for tagged in mine_by_split(sequences(rows), CLUSTERS, replace(SPEC, cut=cut))
    }


def split_of(rows: list[Row]) -> dict[str, str]:
    splits = SPEC.user_splits(sequences(rows)).to_pylist()
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
    splits = split_of([(user, "item00", 0) for user in USERS])
    assert [splits[user] for user in USERS] == ["train", "train", "valid", "test"]


def test_a_log_of_dates_teaches_no_order_of_ids() -> None:
    rng = np.random.default_rng(0)
    ids = [f"item{number:03d}" for number in range(120)]
    items = np.concatenate([rng.choice(120, 6, replace=False) for _ in range(400)])
    columns = {
        col.USER_ID: pa.array([f"u{user}" for user in range(400) for _ in range(6)]),
        col.TIMESTAMP: pa.array(np.zeros(2400, np.int64)).cast(col.TIME_TYPE),
        col.RATING: pa.nulls(2400, pa.float32()),
        col.ITEM: pa.array(items, pa.int32()),
    }
    log = pa.table(columns, schema=col.INTERACTIONS)
    of_ten = np.arange(120, dtype=np.int32) // 10
    mined = mine_transitions(user_sequences(log, pa.array(ids), seed=0), of_ten)
    upwards = mined[col.NOVEL].to_numpy() > mined[col.C2].to_numpy()
    assert 0.45 < upwards.mean() < 0.55
