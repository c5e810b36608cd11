"""Batches and held-out items against their definitions."""

import itertools
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.retrieval.retriever_config import RetrieverConfig
from models.retrieval.training.sequence_shards import RowGroup, row_groups
from models.retrieval.training.training_sequences import COLUMNS, batches, survey
from tests.models.retrieval.small_retriever import ITEMS, catalogue, ring, write_shards

User = tuple[int, list[int]]  # key, items
# Few keys, so that some are equal.
users_of_shards = st.lists(
    st.tuples(st.integers(0, 5), st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=30)),
    max_size=12,
)
SHAPE = {"max_length": 5, "batch_size": 2}


def groups_of(folder: Path, users: list[User], shards: int = 2) -> list[RowGroup]:
    keys, sequences = zip(*users, strict=True) if users else ((), ())
    paths = write_shards(folder, sequences, keys, shards, group_items=20)
    return row_groups(paths, catalogue().vocabulary)


def validated(users: list[User], most: int) -> list[bool]:
    """Say of each user whether the last item is held out, from the definition."""
    able = [len(items) >= 3 and items.count(items[-1]) == 1 for _, items in users]
    keys = sorted(key for (key, _), can in zip(users, able, strict=True) if can)
    too_large = keys[most] if len(keys) > most else 1 << 63
    return [can and key < too_large for (key, _), can in zip(users, able, strict=True)]


@settings(deadline=None)  # files are written
@given(users_of_shards, st.integers(1, 4), st.integers(1, 3))
def test_a_survey_counts_and_holds_out_last_items(
    users: list[User], most: int, shards: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = survey(groups_of(Path(folder), users, shards), ITEMS, most)
    held = validated(users, most)
    assert len(found.held_out) == len(found.histories) == sum(held) <= most
    pairs = zip(found.histories, found.held_out, strict=True)
    expected = [tuple(items) for (_, items), out in zip(users, held, strict=True) if out]
    assert Counter((*history.tolist(), item) for history, item in pairs) == Counter(expected)
    seen = Counter(
        item
        for (_, items), out in zip(users, held, strict=True)
        for item in items[: len(items) - out]
    )
    assert found.counts.tolist() == [seen[item] for item in range(ITEMS)]
    assert found.users == len(users)
    assert found.transitions == sum(seen.values()) - len(users)


@settings(deadline=None)  # files are written
@given(users_of_shards, st.integers(1, 4), st.integers(0, 3), st.integers(1, 100))
def test_an_epoch_holds_every_transition_once_in_order(
    users: list[User], most: int, epoch: int, window_items: int
) -> None:
    config = RetrieverConfig(**SHAPE)
    with tempfile.TemporaryDirectory() as folder:
        groups = groups_of(Path(folder), users)
        found = survey(groups, ITEMS, most)
        made = list(batches(groups, found, config, epoch, window_items))
    assert len(made) == found.steps(config)
    by_user: dict[int, list[tuple[int, int]]] = {}
    recency: dict[int, list[int]] = {}
    for batch in made:
        assert (batch.shape, str(batch.dtype)) == ((len(COLUMNS), 2, 5), "int32")
        for item, target, user, later, _ in batch.reshape(len(COLUMNS), -1).T.tolist():
            if user >= 0:
                by_user.setdefault(user, []).append((item, target))
                recency.setdefault(user, []).append(later)
    held = validated(users, most)
    kept = [items[: len(items) - out] for (_, items), out in zip(users, held, strict=True)]
    expected = [tuple(itertools.pairwise(items)) for items in kept if len(items) > 1]
    assert Counter(map(tuple, by_user.values())) == Counter(expected)
    for of_user in recency.values():
        assert of_user == [min(later, 4) for later in range(len(of_user))][::-1]


@settings(deadline=None)  # files are written
@given(users_of_shards)
def test_held_out_users_do_not_depend_on_the_order_of_rows(users: list[User]) -> None:
    limits = []
    for rows in (users, users[::-1]):
        with tempfile.TemporaryDirectory() as folder:
            limits.append(survey(groups_of(Path(folder), rows), ITEMS, 2).limit)
    assert limits[0] == limits[1]


def test_a_target_comes_with_the_popularity_before_it(tmp_path: Path) -> None:
    """In `write_shards` user u takes item number n at minute 60 u + n."""
    users = [np.full(6, user, np.int32) for user in range(ITEMS)]
    groups = row_groups(write_shards(tmp_path, users), catalogue().vocabulary)
    found = survey(groups, ITEMS, 0)
    items, _, _, recency, snapshots = next(
        batches(groups, found, RetrieverConfig(max_length=ITEMS, batch_size=5), 0)
    )
    minutes = 60 * items.astype(np.int64) + 5 - recency
    chosen = [np.flatnonzero(found.moments <= time)[-1] for time in 60_000_000 * minutes.ravel()]
    np.testing.assert_array_equal(snapshots.ravel(), chosen)


def test_epochs_are_shuffled_by_seed_and_number(tmp_path: Path) -> None:
    groups = row_groups(write_shards(tmp_path, ring()), catalogue().vocabulary)
    found = survey(groups, ITEMS, 0)

    def first(seed: int, epoch: int) -> list[int]:
        config = RetrieverConfig(max_length=8, batch_size=4, seed=seed)
        return next(batches(groups, found, config, epoch))[0].ravel().tolist()

    assert first(0, 0) == first(0, 0)
    assert first(0, 0) != first(0, 1)
    assert first(0, 0) != first(1, 0)


def test_users_of_a_window_are_shuffled_across_its_row_groups(tmp_path: Path) -> None:
    # In the first half of the users even items alone.
    users = [np.full(4, user // 50, np.int32) for user in range(100)]
    groups = row_groups(write_shards(tmp_path, users, shards=1), catalogue().vocabulary)
    config = RetrieverConfig(max_length=30, batch_size=1)
    items = next(batches(groups, survey(groups, ITEMS, 0), config, 0))[0]
    assert set(items.ravel().tolist()) == {0, 1}


BYTES = 12 + 16 / 9  # of an item and its time, with the key and the offsets of its user


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return, for each row group that is read, how many items Arrow keeps at that moment."""
    found: list[float] = []
    read, before = RowGroup.read, pa.total_allocated_bytes()

    def counted(self: RowGroup) -> pa.Table:
        table = read(self)
        found.append((pa.total_allocated_bytes() - before) / BYTES)
        return table

    monkeypatch.setattr(RowGroup, "read", counted)
    return found


@pytest.fixture
def many(tmp_path: Path) -> list[RowGroup]:
    """Return row groups of about 1,000 items, 180,000 together."""
    paths = write_shards(tmp_path, ring(users=20_000), group_items=1_000)
    return row_groups(paths, catalogue().vocabulary)


@pytest.mark.parametrize("window_items", [2_000, 20_000])
def test_no_more_than_a_window_is_decoded_at_once(
    many: list[RowGroup], decoded: list[float], window_items: int
) -> None:
    found = survey(many, ITEMS, 0)
    decoded.clear()
    for _ in batches(many, found, RetrieverConfig(), 0, window_items):
        pass
    assert len(decoded) == len(many)
    assert window_items / 2 < max(decoded) < 1.1 * window_items + 1_000  # a group: Arrow rounds up


def test_a_survey_decodes_a_row_group_at_a_time(many: list[RowGroup], decoded: list[float]) -> None:
    survey(many, ITEMS, 5)
    assert max(decoded) < 3_000  # the one before is not gone yet, and Arrow rounds up


def test_a_user_with_a_million_items_fills_no_batch_alone(tmp_path: Path) -> None:
    heavy = np.random.default_rng(0).integers(ITEMS, size=1_000_000).astype(np.int32)
    users = [heavy, *ring()]
    groups = row_groups(write_shards(tmp_path, users, group_items=1_000), catalogue().vocabulary)
    config = RetrieverConfig()
    found = survey(groups, ITEMS, 5)
    shapes = Counter(batch.shape for batch in batches(groups, found, config, 0, 5_000))
    assert shapes == {(len(COLUMNS), config.batch_size, config.max_length): found.steps(config)}
