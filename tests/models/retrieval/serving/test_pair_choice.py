"""The choice of a pair against a walk through the history in plain Python."""

from collections import Counter
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from models.interests.recent_pairs import RECENT, pair_ranks, recent_clusters, run_starts
from models.retrieval.serving.pair_choice import (
    Choice,
    answered_pairs,
    last_engagements,
    most_recent,
    recent_pairs,
    sampled,
)

M, N = 14, 3
RNG = np.random.default_rng(1)
NOVEL = RNG.integers(-1, M, (M, M, N)).astype(np.int32)
PROBABILITY = RNG.random(NOVEL.shape).astype(np.float32)
WITH_ITEMS = RNG.random(M) < 0.7

Answer = tuple[int, int, int, float]  # c1, c2, novel, probability


@tf.function(
    input_signature=[
        tf.TensorSpec([None, None], tf.int32),
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([M], tf.bool),
    ]
)
def both_choices(
    clusters: tf.Tensor, seeds: tf.Tensor, has_items: tf.Tensor
) -> tuple[Choice, Choice]:
    last = last_engagements(clusters, M)
    pairs = answered_pairs(last, has_items, tf.constant(NOVEL), tf.constant(PROBABILITY))
    return most_recent(pairs), sampled(pairs, seeds)


def choose(
    history: list[int], seed: int | None = None, has_items: np.ndarray = WITH_ITEMS
) -> Choice:
    """Ask for one user, by default with `most_recent`."""
    clusters = tf.constant([history], tf.int32, [1, len(history)])
    recent, drawn = both_choices(clusters, tf.constant([seed or 0], tf.int64), has_items)
    return Choice(*(value.numpy()[0] for value in (recent if seed is None else drawn)))


def draws(histories: list[list[int]], seeds: range) -> Choice:
    """Draw for many users, all in one batch."""
    clusters = tf.constant(histories, tf.int32)
    _, drawn = both_choices(clusters, tf.constant(seeds, tf.int64), WITH_ITEMS)
    return Choice(*(value.numpy() for value in drawn))


def interests(history: list[int]) -> list[int]:
    """Newest first."""
    return list(dict.fromkeys(cluster for cluster in reversed(history) if cluster >= 0))


def expected_answers(history: list[int]) -> dict[tuple[int, int], Answer]:
    """Ranks (newer, older) of every pair that has an answer, most recent first."""
    known = interests(history)
    ranks = list(combinations(range(min(len(known), RECENT)), 2)) if len(known) > 1 else []
    if len(known) == 1:
        ranks = [(0, 0)]
    ranks.sort(key=lambda pair: (pair[1], pair[0]))
    for with_items in (True, False):
        answers = {}
        for newer, older in ranks:
            c1, c2 = known[older], known[newer]
            for rank, cluster in enumerate(NOVEL[c1, c2].tolist()):
                if (
                    cluster >= 0
                    and cluster not in known
                    and (WITH_ITEMS[cluster] or not with_items)
                ):
                    answers[newer, older] = (c1, c2, cluster, PROBABILITY[c1, c2, rank])
                    break
        if answers:
            return answers
    return {}


def expected_propensities(history: list[int]) -> dict[int, float]:
    """Draw one interest, then another: all orders, with exact shares of the halves they are of."""
    answers = expected_answers(history)
    size = min(len(interests(history)), RECENT)
    share = [Fraction(2 ** (-rank / 2)) for rank in range(size)]
    of_pair = {}
    for newer, older in answers:
        if newer == older:
            of_pair[newer, older] = Fraction(1)
            continue
        one, other, all_of_them = share[newer], share[older], sum(share)
        of_pair[newer, older] = one / all_of_them * other / (all_of_them - one)
        of_pair[newer, older] += other / all_of_them * one / (all_of_them - other)
    propensity: Counter = Counter()
    for pair, (_, _, cluster, _) in answers.items():
        propensity[cluster] += of_pair[pair] / sum(of_pair.values())
    return {cluster: float(chance) for cluster, chance in propensity.items()}


histories = st.lists(st.integers(-1, M - 1), max_size=20)
quick = settings(max_examples=150, deadline=None, derandomize=True)


@quick
@given(st.lists(st.integers(0, M - 1), min_size=1, max_size=20))
def test_recent_pairs_are_those_of_recent_clusters(history: list[int]) -> None:
    user, cluster = np.zeros(len(history), int), np.array(history)
    runs = cluster[run_starts(user, cluster)]
    newest = np.array([len(runs) - 1])
    [recent] = recent_clusters(np.zeros(len(runs), int), runs, newest, RECENT)
    c1, c2, weight = (
        part.numpy()[0] for part in recent_pairs(last_engagements(tf.constant([history]), M))
    )
    known = min(len(set(history)), RECENT)
    assert np.sum(weight > 0) == max(1, known * (known - 1) // 2)
    older, newer = pair_ranks(RECENT)[weight > 0].T
    assert (c1[weight > 0] == recent[older]).all()
    assert (c2[weight > 0] == recent[newer]).all()


@quick
@given(histories)
def test_most_recent_is_the_first_pair_that_has_an_answer(history: list[int]) -> None:
    answers = expected_answers(history)
    assert choose(history)[:4] == next(iter(answers.values()), choose(history)[:4])
    assert (choose(history).novel == -1) == (not answers)
    assert choose(history).propensity == 1


@quick
@given(histories, st.integers(-(2**63), 2**63 - 1))
def test_sampled_is_a_pair_that_has_an_answer_with_its_propensity(
    history: list[int], seed: int
) -> None:
    answers, chosen = expected_answers(history), choose(history, seed)
    if answers:
        assert chosen[:4] in answers.values()
        propensity = expected_propensities(history)[int(chosen.novel)]
        assert chosen.propensity == pytest.approx(propensity, rel=1e-6)
    else:
        assert (chosen.novel, chosen.probability, chosen.propensity) == (-1, 0, 1)


@pytest.mark.parametrize("history", [[], [-1], list(range(M))])
@pytest.mark.parametrize("seed", [None, 5])
def test_nothing_new_is_told_with_the_newest_pair(history: list[int], seed: int | None) -> None:
    newest = (history * 2)[-2:] if len(history) > 1 else (-1, -1)
    assert choose(history, seed) == (*newest, -1, 0, 1)


def test_one_known_interest_is_a_pair_with_itself() -> None:
    history = [3, 3, -1]
    assert expected_answers(history)
    assert choose(history)[:2] == choose(history, 9)[:2] == (3, 3)


@pytest.fixture
def history() -> list[int]:
    """A user whose pairs have several answers, of which one is that of several pairs."""
    history = [0, 5, 9, 2, 11, 5]
    answers = Counter(cluster for _, _, cluster, _ in expected_answers(history).values())
    assert len(answers) > 2
    assert max(answers.values()) > 1
    return history


@pytest.mark.parametrize("first_seed", [0, -5_000, 10**15])
def test_each_cluster_is_drawn_as_often_as_its_propensity_says(
    history: list[int], first_seed: int
) -> None:
    count = 20_000
    chosen = draws([history] * count, range(first_seed, first_seed + count))
    expected = expected_propensities(history)
    clusters = sorted(expected)
    seen = [np.sum(chosen.novel == cluster) for cluster in clusters]
    assert chisquare(seen, [expected[cluster] * count for cluster in clusters]).pvalue > 0.001


def test_propensities_of_all_answers_sum_to_one(history: list[int]) -> None:
    chosen = draws([history] * 2_000, range(2_000))
    found = dict(zip(chosen.novel.tolist(), chosen.propensity.tolist(), strict=True))
    assert len(found) == len(expected_propensities(history))
    assert sum(found.values()) == pytest.approx(1, abs=1e-6)


def test_rows_of_a_batch_are_answered_as_alone() -> None:
    rows: list[list[int]] = RNG.integers(-1, M, (40, 9)).tolist()
    batch = draws(rows, range(len(rows)))
    for seed, row in enumerate(rows):
        assert tuple(column[seed] for column in batch) == choose(row, seed)


def test_cluster_without_items_is_the_answer_only_where_no_pair_has_another() -> None:
    history = [1, 4]
    (c1, c2, _, _) = next(iter(expected_answers(history).values()))
    nothing = np.zeros(M, bool)
    options = [c for c in NOVEL[c1, c2].tolist() if c >= 0 and c not in history]
    assert choose(history, has_items=nothing).novel == options[0]
    only = nothing.copy()
    only[options[-1]] = True
    assert options[-1] != options[0]
    assert choose(history, has_items=only).novel == options[-1]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_no_rows_and_no_items_have_no_engagements(shape: tuple[int, int]) -> None:
    last = last_engagements(tf.zeros(shape, tf.int32), M).numpy()
    assert last.shape == (shape[0], M)
    assert np.all(last < 0)
