"""The best n clusters, against the whole distribution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.constrained_decoding import Question, constrained_top
from models.description_trie import DescriptionTrie

END = 0
descriptions = st.lists(
    st.lists(st.integers(1, 3), max_size=4).map(tuple), min_size=1, max_size=14, unique=True
)


def model_scores(trie: DescriptionTrie, batch: int, seed: int) -> list[np.ndarray]:
    """Return log-probabilities of all branches, [batch, k] each, some very unequal."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(batch, len(branch.tokens))) * 4 for branch in trie.branches]


def answer(question: Question, branch_scores: np.ndarray, trie: DescriptionTrie):
    """Answer as an engine does: the best `count` of the tokens, renormalised over all of them."""
    branch = trie.branches[question.branch]
    named = branch_scores[np.searchsorted(branch.tokens, question.tokens)]
    log_probs = named - np.log(np.exp(named).sum())
    best = np.argsort(-log_probs, kind="stable")[: question.count]
    return question.tokens[best], log_probs[best]


@given(descriptions, st.integers(1, 8), st.integers(0, 99), st.data())
def test_top_n_is_that_of_the_whole_distribution(ids, n: int, seed: int, data) -> None:
    trie = DescriptionTrie(ids, END)
    scores = model_scores(trie, 3, seed)
    masks = st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))
    excluded = np.array(data.draw(st.lists(masks, min_size=3, max_size=3)), bool)

    clusters, probabilities = constrained_top(
        trie, lambda asked: [answer(q, scores[q.branch][q.row], trie) for q in asked], excluded, n
    )

    whole = np.exp(trie.log_probabilities(scores, excluded))
    best = np.sort(whole, axis=1)[:, ::-1][:, :n]
    np.testing.assert_allclose(probabilities[:, : best.shape[1]], best, rtol=1e-5)
    for row in range(3):
        there = clusters[row][clusters[row] >= 0]
        assert len(set(there)) == len(there) == min(n, (~excluded[row]).sum())
        np.testing.assert_allclose(whole[row, there], probabilities[row, : len(there)], rtol=1e-5)


def test_branches_that_cannot_win_are_not_asked() -> None:
    trie = DescriptionTrie([[1, 1], [1, 2], [2, 1], [2, 2]], END)
    asked: list[int] = []

    def ask(questions):
        asked.extend(q.branch for q in questions)
        scores = [np.where(trie.branches[q.branch].tokens == 1, 0.0, -9.0) for q in questions]
        return [answer(q, s, trie) for q, s in zip(questions, scores, strict=True)]

    constrained_top(trie, ask, np.zeros((1, 4), bool), n=1)
    assert [trie.branches[branch].path for branch in asked] == [(), (1,)]


@pytest.mark.parametrize("size", [25, 2_000])
def test_only_as_many_tokens_are_named_as_can_matter(size: int) -> None:
    rng = np.random.default_rng(0)
    trie = DescriptionTrie([[token + 1] for token in range(size)] + [[1, 5]], END)
    scores = model_scores(trie, 2, 0)
    excluded = rng.random((2, size + 1)) < 0.1
    excluded[:, 0] = False
    asked: list[Question] = []

    def ask(questions):
        asked.extend(questions)
        return [answer(q, scores[q.branch][q.row], trie) for q in questions]

    clusters, probabilities = constrained_top(trie, ask, excluded, 20)
    whole = np.exp(trie.log_probabilities(scores, excluded))
    best = np.argsort(-whole, axis=1, kind="stable")[:, :20]
    np.testing.assert_array_equal(clusters[:, : best.shape[1]], best)
    np.testing.assert_allclose(
        probabilities[:, : best.shape[1]], np.take_along_axis(whole, best, 1), rtol=1e-5
    )
    assert max(question.count for question in asked) <= 21


def test_a_branch_with_one_allowed_continuation_is_not_asked() -> None:
    trie = DescriptionTrie([[1], [2]], END)
    clusters, probabilities = constrained_top(
        trie, lambda asked: [1 / 0], np.array([[True, False]]), n=2
    )
    assert clusters.tolist() == [[1, -1]]
    assert probabilities.tolist() == [[1.0, 0.0]]
