"""How the answers of the retrievers are made of scores, and judged."""

import numpy as np

from benchmarks.retriever.rankers import best, rank_in
from models.retrieval.ranking_metrics import TOP, hit_rate, ndcg, rank_of

USERS, ITEMS = 40, 30
RNG = np.random.default_rng(0)
SCORES = RNG.integers(0, 12, (USERS, ITEMS)).astype(np.float32)  # few distinct: there are ties
HISTORIES = [RNG.choice(ITEMS, RNG.integers(1, 9), replace=False) for _ in range(USERS)]


def test_answers_are_the_best_items_outside_the_history() -> None:
    answers = best(SCORES.copy(), HISTORIES)
    for row, history in enumerate(HISTORIES):
        new = [item for item in range(ITEMS) if item not in history]
        expected = sorted(new, key=lambda item: (-SCORES[row, item], item))[:TOP]
        assert answers[row].tolist() == expected


def test_metrics_of_the_answers_are_those_of_the_ranks_among_all_items() -> None:
    targets = np.array([np.setdiff1d(np.arange(ITEMS), history)[3] for history in HISTORIES])
    found = rank_in(best(SCORES.copy(), HISTORIES), targets)
    among_all = rank_of(SCORES.copy(), HISTORIES, targets)
    assert 0 < hit_rate(found) < 1
    assert (hit_rate(found), ndcg(found)) == (hit_rate(among_all), ndcg(among_all))
