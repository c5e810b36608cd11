"""The best n clusters, against the whole distribution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.language.decoding.constrained_decoding import Query, constrained_top
from models.language.description_trie import DescriptionTrie

END = 0
descriptions = st.lists(
    st.lists(st.integers(1, 3), max_size=4).map(tuple), min_size=1, max_size=14, unique=True
)


def model_logits(trie: DescriptionTrie, batch: int, seed: int) -> list[np.ndarray]:
    """Return logits at all branches, [batch, k] each, some very unequal."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(batch, len(branch.tokens))) * 4 for branch in trie.branches]


@given(descriptions, st.integers(1, 8), st.integers(0, 99), st.data())
def test_top_n_is_that_of_the_whole_distribution(ids, n: int, seed: int, data) -> None:
    trie = DescriptionTrie(ids, END)
    logits = model_logits(trie, 3, seed)
    masks = st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))
    excluded = np.array(data.draw(st.lists(masks, min_size=3, max_size=3)), bool)

    clusters, probabilities = constrained_top(
        trie, lambda asked: [logits[q.branch][q.row] for q in asked], excluded, n
    )

    whole = np.exp(trie.log_probabilities(logits, excluded))
    best = np.sort(whole, axis=1)[:, ::-1][:, :n]
    np.testing.assert_allclose(probabilities[:, : best.shape[1]], best, rtol=1e-5)
    for row in range(3):
        there = clusters[row][clusters[row] >= 0]
        assert len(set(there)) == len(there) == min(n, (~excluded[row]).sum())
        np.testing.assert_allclose(whole[row, there], probabilities[row, : len(there)], rtol=1e-5)


def test_branches_that_cannot_win_are_not_asked() -> None:
    trie = DescriptionTrie([[1, 1], [1, 2], [2, 1], [2, 2]], END)
    asked: list[int] = []

    def ask(queries):
        asked.extend(q.branch for q in queries)
        return [np.where(trie.branches[q.branch].tokens == 1, 0.0, -9.0) for q in queries]

    constrained_top(trie, ask, np.zeros((1, 4), bool), n=1)
    assert [trie.branches[branch].path for branch in asked] == [(), (1,)]


@pytest.mark.parametrize("size", [40, 2_000])
def test_most_clusters_need_no_query_but_the_first(size: int) -> None:
    trie = DescriptionTrie([[token + 1] for token in range(size)] + [[1, 5]], END)
    logits = model_logits(trie, 2, 0)
    logits[0][:, 0] = -99.0  # the token with a branch behind it
    asked: list[Query] = []

    def ask(queries):
        asked.extend(queries)
        return [logits[q.branch][q.row] for q in queries]

    excluded = np.random.default_rng(0).random((2, size + 1)) < 0.1
    clusters, _ = constrained_top(trie, ask, excluded, 20)
    whole = np.exp(trie.log_probabilities(logits, excluded))
    np.testing.assert_array_equal(clusters, np.argsort(-whole, axis=1, kind="stable")[:, :20])
    assert [query.branch for query in asked] == [0, 0]


def test_a_branch_with_one_allowed_continuation_is_not_asked() -> None:
    trie = DescriptionTrie([[1], [2]], END)
    clusters, probabilities = constrained_top(
        trie, lambda asked: [1 / 0], np.array([[True, False]]), n=2
    )
    assert clusters.tolist() == [[1, -1]]
    assert probabilities.tolist() == [[1.0, 0.0]]
