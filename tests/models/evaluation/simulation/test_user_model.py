"""The user model: its state, its probabilities, and whether it finds what users were made with."""

from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.simulation.fit_user_model import fit_user_model
from models.evaluation.simulation.user_model import Histories, UserModel, UserState

M = 5
histories = st.lists(st.lists(st.integers(0, M - 1), min_size=1, max_size=12), min_size=1)
quick = settings(max_examples=40, deadline=None)


def as_arrays(lists: list[list[int]]) -> Histories:
    offsets = np.append(0, np.cumsum([len(one) for one in lists]))
    return Histories(offsets.astype(np.int64), np.array([*chain(*lists)], np.int32))


def latest_two(history: list[int]) -> tuple[int, int]:
    newest = list(dict.fromkeys(reversed(history)))
    return (newest[1] if len(newest) > 1 else newest[0]), newest[0]


@quick
@given(histories)
def test_state_is_that_of_a_walk_through_each_history(lists: list[list[int]]) -> None:
    model = fit_user_model(as_arrays(lists), M)
    state = model.state_of(as_arrays(lists))
    for user, history in enumerate(lists):
        interest = np.zeros(M)
        for age, cluster in enumerate(reversed(history)):
            interest[cluster] += 2.0 ** (-age / model.half_life)
        assert np.allclose(state.interest[user], interest, rtol=1e-4)
        assert set(np.flatnonzero(state.known[user])) == set(history)
        assert (state.c1[user], state.c2[user]) == latest_two(history)


@quick
@given(histories)
def test_probabilities_are_in_0_to_1_and_sum_to_at_most_1(lists: list[list[int]]) -> None:
    model = fit_user_model(as_arrays(lists), M)
    chance = model.next_engagement(model.state_of(as_arrays(lists)))
    assert np.all((chance >= 0) & (chance <= 1))
    assert np.all(chance.sum(axis=1) <= 1 + 1e-5)
    assert np.all((model.discovery >= 0) & (model.discovery <= 1))
    assert np.all((model.satiation > 0) & (model.satiation <= 1))
    assert np.all(np.diff(model.satiation) <= 0)


@quick
@given(histories, st.data())
def test_a_day_is_as_its_engagements_one_by_one(
    lists: list[list[int]], data: st.DataObject
) -> None:
    model = fit_user_model(as_arrays(lists), M)
    together = model.state_of(as_arrays(lists))
    shape = (len(lists), 4)
    cells = shape[0] * shape[1]
    drawn = data.draw(st.lists(st.integers(0, 2 * M - 1), min_size=cells, max_size=cells))
    clusters = np.array(drawn, np.int32).reshape(shape)
    engaged = clusters < M
    clusters %= M
    one_by_one = together.rows()
    together.engage(clusters, engaged, model.half_life)
    for slot in range(4):
        one_by_one.engage(clusters[:, [slot]], engaged[:, [slot]], model.half_life)
    for name, expected in vars(one_by_one).items():
        assert np.allclose(getattr(together, name), expected, rtol=1e-4), name


def test_no_engagements_can_not_be_fitted() -> None:
    with pytest.raises(ValueError, match="no engagements"):
        fit_user_model(Histories(np.zeros(1, np.int64), np.zeros(0, np.int32)), M)


def drawn_from(model: UserModel, users: int, steps: int, seed: int) -> Histories:
    """Draw histories from a model; what satiation takes away is no engagement."""
    rng, size = np.random.default_rng(seed), len(model.log_popularity)
    state = UserState.empty(users, size)
    found: list[list[int]] = [[] for _ in range(users)]
    start = rng.integers(0, size, (users, 1)).astype(np.int32)
    state.engage(start, np.ones((users, 1), bool), model.half_life)
    for user in range(users):
        found[user].append(int(start[user, 0]))
    for _ in range(steps):
        ends = np.cumsum(model.next_engagement(state).astype(float), axis=1)
        clusters = (ends <= rng.random((users, 1))).sum(axis=1)[:, None].astype(np.int32)
        there = clusters < size
        state.engage(np.minimum(clusters, size - 1), there, model.half_life)
        for user in np.flatnonzero(there):
            found[user].append(int(clusters[user, 0]))
    return as_arrays(found)


def made_with(size: int, **others: Any) -> UserModel:
    known = np.arange(size + 1)
    parameters: dict[str, Any] = {
        "discovery": np.where(known < size, 0.6 * 0.9**known, 0).astype(np.float32),
        "log_popularity": np.log(np.full(size, 1 / size, np.float32)),
        "log_lift": np.zeros((size, size), np.float32),
        "half_life": 4.0,
        "satiation": np.ones(6, np.float32),
    }
    return UserModel(**(parameters | others))


def test_half_life_and_discovery_are_found_again() -> None:
    made = made_with(10)
    found = fit_user_model(drawn_from(made, 400, 30, 0), 10)
    assert found.half_life == made.half_life
    assert np.allclose(found.discovery[1:7], made.discovery[1:7], atol=0.06)


def test_lift_is_found_where_there_is_one() -> None:
    lift = np.zeros((10, 10), np.float32)
    lift[np.arange(10), (np.arange(10) + 1) % 10] = 4  # each leads to the next
    found = fit_user_model(drawn_from(made_with(10, log_lift=lift), 400, 8, 0), 10).log_lift
    assert np.all(np.argmax(found, axis=1) == (np.arange(10) + 1) % 10)


def test_satiation_is_found_where_there_is_one() -> None:
    falling = np.array([1, 1, 1, 0.5, 0.2, 0.1], np.float32)
    tired = fit_user_model(drawn_from(made_with(6, satiation=falling), 300, 30, 0), 6).satiation
    never = fit_user_model(drawn_from(made_with(6), 300, 30, 0), 6).satiation
    assert tired[-1] < 0.6
    assert never[-1] > 0.8
