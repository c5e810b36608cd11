"""Estimates the parameters of a user model from engagements; `user_model` defines them."""

import numpy as np
from numpy.typing import NDArray

from models.evaluation.simulation.user_model import (
    FATIGUE_EDGES,
    Floats,
    Histories,
    UserModel,
    UserState,
    interest_shares,
    new_cluster,
)

_HALF_LIVES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 1024.0)  # candidates, in engagements
_ONE_ENGAGEMENT = 2  # the bin of a single engagement, just now
_LIFT_PRIORS = (3.0, 10.0, 30.0, 100.0)  # candidates: pseudo-events without lift
_LIFT_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)  # candidates for b
_EVENTS = 20_000  # maximum of discoveries that affinity is fitted on
_PRIOR = 20.0  # pseudo-events of rates


def fit_user_model(histories: Histories, size: int) -> UserModel:
    """Estimate the model of users on whom no policy was fitted.

    The users must be in a random order, such as by hash: affinity uses only the first ones of many.

    Raises
    ------
    ValueError
        If there is no engagement.
    """
    if not len(histories.clusters):
        raise ValueError("there are no engagements to fit a user model on")
    half_life, discovery = _drift_and_discovery(histories, size)
    log_popularity, log_lift = _affinity(histories, size, half_life)
    return UserModel(
        discovery,
        log_popularity,
        log_lift,
        half_life,
        _satiation(histories, size, half_life, discovery),
    )


def _drift_and_discovery(histories: Histories, size: int) -> tuple[float, Floats]:
    """Return the half life of maximum likelihood of repeats, and the discovery rates."""
    states = [UserState.empty(len(histories.offsets) - 1, size) for _ in _HALF_LIVES]
    likelihood = np.zeros(len(_HALF_LIVES))
    tried, opened = np.zeros(size + 1), np.zeros(size + 1)
    for number, (clusters, there) in enumerate(histories.steps()):
        rows = np.flatnonzero(there)
        chosen = clusters[rows, 0]
        repeats = states[0].known[rows, chosen]
        if number:  # every first engagement is new
            count = states[0].known[rows].sum(axis=1)
            tried += np.bincount(count, minlength=size + 1)
            opened += np.bincount(count[~repeats], minlength=size + 1)
        again = rows[repeats]
        for index, (state, life) in enumerate(zip(states, _HALF_LIVES, strict=True)):
            interest = state.interest[again].astype(float)
            own = interest[np.arange(len(again)), chosen[repeats]]
            likelihood[index] += np.log(np.maximum(own, 1e-30) / interest.sum(axis=1)).sum()
            state.engage(clusters, there, life)
    discovery = np.zeros(size + 1)
    rate = (opened.sum() + 1) / (tried.sum() + 2)
    for known in range(1, size):  # shrunk to the previous rate times the share of clusters left
        if known > 1:
            rate *= (size - known) / (size - known + 1)
        rate = (opened[known] + _PRIOR * rate) / (tried[known] + _PRIOR)
        discovery[known] = rate
    discovery[0] = 1
    return _HALF_LIVES[int(np.argmax(likelihood))], discovery.astype(np.float32)


def _affinity(histories: Histories, size: int, half_life: float) -> tuple[Floats, Floats]:
    """Return log popularity and b log lift.

    The prior of lifts and b maximise the likelihood of one half's discoveries, given the lifts of
    the other half.
    """
    shares, knowns, opened, fold = _discoveries(histories, size, half_life)
    firsts = np.bincount(opened, minlength=size)
    popularity = np.log((firsts + 1) / (firsts.sum() + size)).astype(np.float32)
    if not len(opened):
        return popularity, np.zeros((size, size), np.float32)
    expected = new_cluster(np.broadcast_to(popularity, knowns.shape), knowns)

    def lift_counts(rows: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
        observed = np.zeros((size, size), np.float64)
        np.add.at(observed.T, opened[rows], shares[rows])
        return observed, (shares[rows].T @ expected[rows]).astype(np.float64)

    halves = [lift_counts(fold == half) for half in (0, 1)]
    best, choice = -np.inf, (_LIFT_PRIORS[0], 0.0)
    for prior in _LIFT_PRIORS:
        means = np.zeros_like(shares)
        for half in (0, 1):
            means[fold == half] = shares[fold == half] @ _log_lift(*halves[1 - half], prior)
        for weight in _LIFT_WEIGHTS:
            chance = new_cluster(popularity + weight * means, knowns)
            own = chance[np.arange(len(opened)), opened].astype(float)
            likelihood = np.log(np.maximum(own, 1e-30)).sum()
            if likelihood > best:
                best, choice = likelihood, (prior, weight)
    prior, weight = choice
    (observed, predicted), (further, more) = halves
    return popularity, weight * _log_lift(observed + further, predicted + more, prior)


def _log_lift(observed: NDArray, expected: NDArray, prior: float) -> Floats:
    return np.log((observed + prior) / (expected + prior)).astype(np.float32)


def _discoveries(
    histories: Histories, size: int, half_life: float
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int32], NDArray[np.int64]]:
    """Return the first `_EVENTS` discoveries, user by user.

    Returns interest shares and known clusters before each [events, M], its cluster, and the user
    modulo 2.
    """
    lengths = np.diff(histories.offsets)
    user = np.repeat(np.arange(len(lengths)), lengths)
    _, first = np.unique(user * size + histories.clusters, return_index=True)
    of_user = np.bincount(user[first], minlength=len(lengths)) - (lengths > 0)
    users = int(np.searchsorted(np.cumsum(of_user), _EVENTS, "right"))
    some = Histories(histories.offsets[: users + 1], histories.clusters)
    state = UserState.empty(users, size)
    found: list[tuple] = []
    for clusters, there in some.steps():
        rows = np.flatnonzero(there[:, 0] & state.known.any(axis=1))
        rows = rows[~state.known[rows, clusters[rows, 0]]]
        found.append((interest_shares(state)[rows], state.known[rows], clusters[rows, 0], rows % 2))
        state.engage(clusters, there, half_life)
    nothing = (state.interest[:0], state.known[:0], state.c1[:0], np.zeros(0, np.int64))
    shares, knowns, opened, fold = (
        np.concatenate(parts) for parts in zip(nothing, *found, strict=True)
    )
    return shares, knowns, opened, fold


def _satiation(histories: Histories, size: int, half_life: float, discovery: Floats) -> Floats:
    """Return observed over expected repeats by fatigue, non-increasing from one engagement on."""
    bins = len(FATIGUE_EDGES) + 1
    observed, expected = np.zeros(bins), np.zeros(bins)
    state = UserState.empty(len(histories.offsets) - 1, size)
    for clusters, there in histories.steps():
        rows = np.flatnonzero(there[:, 0] & state.known.any(axis=1))
        chosen = clusters[rows, 0]
        bin_of = np.digitize(state.fatigue[rows], FATIGUE_EDGES)
        known = state.known[rows]
        chance = (1 - discovery[known.sum(axis=1)])[:, None] * interest_shares(state)[rows]
        expected += np.bincount(bin_of[known], chance[known], minlength=bins)
        own = np.arange(len(rows)), chosen
        observed += np.bincount(bin_of[own][known[own]], minlength=bins)
        state.engage(clusters, there, half_life)
    ratio = (observed + _PRIOR) / (expected + _PRIOR)
    factor = np.ones(bins)
    falling = np.minimum.accumulate(ratio[_ONE_ENGAGEMENT:])
    factor[_ONE_ENGAGEMENT:] = falling / falling[0]
    return factor.astype(np.float32)
