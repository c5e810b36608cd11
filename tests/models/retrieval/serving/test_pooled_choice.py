"""The pooled choice against pooling whole distributions of every pair in plain Python."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.policies.pooled_policy import PooledPolicy
from models.interests.log_odds import log_odds
from models.interests.recent_pairs import RECENT
from models.retrieval.serving.pair_choice import Choice, last_engagements
from models.retrieval.serving.pooled_choice import pooled
from tests.models.interests.tables import novelty_table

M, N = 14, 3
BLOCKED = (2, 9)  # no answers, but users may know them
RNG = np.random.default_rng(2)


def others_of(c1: int, c2: int) -> list[int]:
    return [c for c in range(M) if c not in (c1, c2, *BLOCKED)]


def _table() -> tuple[np.ndarray, np.ndarray]:
    novel = np.full((M, M, N), -1, np.int32)
    probability = np.zeros(novel.shape, np.float32)
    for c1, c2 in np.ndindex(M, M):
        listed = RNG.permutation(others_of(c1, c2))[: RNG.integers(N + 1)]
        novel[c1, c2, : len(listed)] = listed
        shares = np.sort(RNG.dirichlet(np.ones(len(others_of(c1, c2)))))[::-1]
        probability[c1, c2, : len(listed)] = shares[: len(listed)]
    return novel, probability


NOVEL, PROBABILITY = _table()
TABLE = novelty_table(NOVEL, PROBABILITY, BLOCKED)
LOG_ODDS = log_odds(TABLE)
ALLOWED = ~np.isin(np.arange(M), BLOCKED)
WITH_ITEMS = RNG.random(M) < 0.7


@tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([M], tf.bool)])
def _choose(clusters: tf.Tensor, has_items: tf.Tensor) -> Choice:
    last = last_engagements(clusters, M)
    return pooled(last, has_items, *map(tf.constant, (NOVEL, LOG_ODDS, ALLOWED)))


def choose(history: list[int], has_items: np.ndarray = WITH_ITEMS) -> Choice:
    answer = _choose(tf.constant([history], tf.int32, [1, len(history)]), has_items)
    return Choice(*(value.numpy()[0] for value in answer))


def interests(history: list[int]) -> list[int]:
    """Newest first."""
    return list(dict.fromkeys(cluster for cluster in reversed(history) if cluster >= 0))


def row(c1: int, c2: int) -> np.ndarray:
    """Log probability of every cluster after a pair; -inf for the pair and what is blocked."""
    p = np.full(M, -np.inf)
    others = others_of(c1, c2)
    listed = NOVEL[c1, c2][NOVEL[c1, c2] >= 0].tolist()
    given = PROBABILITY[c1, c2, : len(listed)].astype(float)
    left = (1 - given.sum()) / max(len(others) - len(listed), 1)
    p[others] = np.log(min([left, *given]))
    p[listed] = np.log(given)
    return p


def distribution(history: list[int]) -> np.ndarray:
    """Pool the rows of all pairs over what is new to the user, [M]; weights by exact draws."""
    known = interests(history)
    share = [Fraction(2 ** (-rank / 2)) for rank in range(min(len(known), RECENT))]
    ranks = list(combinations(range(len(share)), 2)) or [(0, 0)]
    log_p = np.zeros(M)
    for newer, older in ranks:
        one, other, whole = share[newer], share[older], sum(share)
        both = one * other / (whole - one) + other * one / (whole - other) if older else whole
        log_p += float(both / whole) * row(known[older], known[newer])
    log_p[known] = -np.inf
    p = np.exp(log_p - log_p.max())
    return p / p.sum()


def listed(history: list[int]) -> set[int]:
    known = interests(history)
    pairs = list(combinations(known[:RECENT], 2)) or [(c, c) for c in known]
    found = {int(c) for newer, older in pairs for c in NOVEL[older, newer]}
    return found - {-1, *known}


histories = st.lists(st.integers(-1, M - 1), max_size=20)
quick = settings(max_examples=150, deadline=None, derandomize=True)


@quick
@given(histories)
def test_it_is_the_likeliest_new_cluster_of_the_pooled_rows(history: list[int]) -> None:
    chosen, able = choose(history), listed(history)
    if not able:
        assert (chosen.novel, chosen.probability) == (-1, 0)
        return
    able = {c for c in able if WITH_ITEMS[c]} or able
    p = distribution(history)
    assert chosen.novel in able
    assert p[chosen.novel] == pytest.approx(max(p[list(able)]), rel=1e-3)
    assert chosen.probability == pytest.approx(p[chosen.novel], rel=1e-3)


@quick
@given(histories)
def test_an_evaluation_asks_for_the_same(history: list[int]) -> None:
    known = interests(history)
    if not known:
        return
    recent = (known + known[-1:] * RECENT)[:RECENT]
    scores = PooledPolicy(TABLE).scores(np.array([recent], np.int32))[0]
    scores[known] = -np.inf
    chosen = choose(history, np.ones(M, bool)).novel
    assert chosen == (-1 if np.isneginf(scores).all() else scores.argmax())


@pytest.mark.parametrize("history", [[], [-1], list(range(M))])
def test_nothing_new_is_told_with_the_newest_pair(history: list[int]) -> None:
    newest = (history * 2)[-2:] if len(history) > 1 else (-1, -1)
    assert choose(history) == (*newest, -1, 0, 1)


def test_the_newest_pair_is_told_and_the_choice_is_certain() -> None:
    history = [3, 0, 5, 9]
    assert listed(history)
    chosen = choose(history)
    assert (chosen.c1, chosen.c2, chosen.propensity) == (5, 9, 1)


def test_rows_of_a_batch_are_answered_as_alone() -> None:
    rows = RNG.integers(-1, M, (40, 9))
    batch = [value.numpy() for value in _choose(tf.constant(rows, tf.int32), WITH_ITEMS)]
    for number, history in enumerate(rows.tolist()):
        assert tuple(column[number] for column in batch) == choose(history)


def test_cluster_without_items_is_the_answer_only_where_there_is_no_other() -> None:
    history = [1, 4, 7]
    able = listed(history)
    assert len(able) > 1
    only = np.zeros(M, bool)
    only[min(able, key=lambda c: distribution(history)[c])] = True
    assert choose(history, only).novel == np.flatnonzero(only)[0]
    best = max(able, key=lambda c: distribution(history)[c])
    assert choose(history, np.zeros(M, bool)).novel == best
