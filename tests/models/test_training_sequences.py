"""Batches and held-out items against their definitions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.retriever_config import RetrieverConfig
from models.training_sequences import batches, hold_out
from tests.models.small_retriever import ITEMS, ring

sequences_of_users = st.lists(
    st.lists(st.integers(0, ITEMS - 1), min_size=2, max_size=30).map(
        lambda items: np.array(items, np.int32)
    ),
    min_size=1,
    max_size=8,
)


@given(sequences_of_users, st.integers(0, 3))
def test_an_epoch_holds_every_transition_once_in_order(
    sequences: list[np.ndarray], epoch: int
) -> None:
    config = RetrieverConfig(max_length=5, batch_size=2)
    rows: list[list[tuple[int, int, int, int]]] = []
    for batch in batches(sequences, config, epoch):
        assert {array.shape for array in batch.values()} == {(2, 5)}
        cells = zip(*(batch[n] for n in ("users", "items", "targets", "places")), strict=True)
        rows += [list(zip(*map(np.ndarray.tolist, row), strict=True)) for row in cells]
    for user, sequence in enumerate(sequences):
        mine = [(item, target) for row in rows for who, item, target, _ in row if who == user]
        assert mine == list(zip(sequence[:-1].tolist(), sequence[1:].tolist(), strict=True))
    for row in rows:
        for user in {cell[0] for cell in row} - {-1}:
            places = [cell[3] for cell in row if cell[0] == user]
            assert places == list(range(len(places)))


def test_epochs_are_shuffled_by_seed_and_number() -> None:
    def users(seed: int, epoch: int) -> list[int]:
        config = RetrieverConfig(max_length=8, batch_size=64, seed=seed)
        return next(batches(ring(), config, epoch))["users"].ravel().tolist()

    assert users(0, 0) == users(0, 0)
    assert users(0, 0) != users(0, 1)
    assert users(0, 0) != users(1, 0)


@given(sequences_of_users, st.integers(1, 4))
def test_held_out_items_are_last_new_and_few(sequences: list[np.ndarray], most: int) -> None:
    config = RetrieverConfig(validation_users=most)
    training, histories, held_out = hold_out(sequences, config)
    shortened = [u for u in range(len(sequences)) if len(training[u]) < len(sequences[u])]
    able = [s for s in sequences if len(s) >= 3 and s[-1] not in s[:-1]]
    assert len(shortened) == len(histories) == len(held_out) == min(most, len(able))
    for user, history, item in zip(shortened, histories, held_out, strict=True):
        assert item not in history
        np.testing.assert_array_equal([*history, item], sequences[user])
        np.testing.assert_array_equal(training[user], history)
