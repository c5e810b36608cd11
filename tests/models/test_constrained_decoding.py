"""The best n clusters, against the whole distribution."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.constrained_decoding import constrained_top
from models.description_trie import DescriptionTrie

END = 0
descriptions = st.lists(
    st.lists(st.integers(1, 3), max_size=4).map(tuple), min_size=1, max_size=14, unique=True
)


def model_scores(trie: DescriptionTrie, batch: int, seed: int) -> list[np.ndarray]:
    """Return log-probabilities of all branches, [batch, k] each, some very unequal."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(batch, len(branch.tokens))) * 4 for branch in trie.branches]


@given(descriptions, st.integers(1, 8), st.integers(0, 99), st.data())
def test_top_n_is_that_of_the_whole_distribution(ids, n: int, seed: int, data) -> None:
    trie = DescriptionTrie(ids, END)
    scores = model_scores(trie, 3, seed)
    masks = st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))
    excluded = np.array(data.draw(st.lists(masks, min_size=3, max_size=3)), bool)

    clusters, probabilities = constrained_top(
        trie, lambda asked: [scores[branch][row] for row, branch in asked], excluded, n
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
    asked: list[tuple[int, int]] = []

    def ask(questions):
        asked.extend(questions)
        tokens = [trie.branches[branch].tokens for _, branch in questions]
        return [np.where(ids == 1, 0.0, -9.0) for ids in tokens]

    constrained_top(trie, ask, np.zeros((1, 4), bool), n=1)
    assert [trie.branches[branch].path for _, branch in asked] == [(), (1,)]


def test_a_branch_with_one_allowed_continuation_is_not_asked() -> None:
    trie = DescriptionTrie([[1], [2]], END)
    clusters, probabilities = constrained_top(
        trie, lambda asked: [1 / 0], np.array([[True, False]]), n=2
    )
    assert clusters.tolist() == [[1, -1]]
    assert probabilities.tolist() == [[1.0, 0.0]]
