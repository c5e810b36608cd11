import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.language.description_trie import DescriptionTrie

END = 9
VOCABULARY = 10
descriptions = st.lists(
    st.lists(st.integers(0, 3), max_size=4).map(tuple), min_size=1, max_size=12, unique=True
)


def model_log_probs(path: tuple[int, ...], row: int) -> np.ndarray:
    """Return a made-up language model's next-token log-probabilities, up to a constant."""
    rng = np.random.default_rng([row, *path])
    return rng.normal(scale=3, size=VOCABULARY) + 100 * rng.normal()


def walk(token_ids, excluded: np.ndarray, row: int) -> np.ndarray:
    """Return the constrained distribution token by token, straight from its definition."""
    allowed = [(*ids, END) for ids, out in zip(token_ids, excluded, strict=True) if not out]
    result = []
    for ids, out in zip(token_ids, excluded, strict=True):
        probability = 0.0 if out else 1.0
        for depth, token in enumerate((*ids, END) if not out else ()):
            prefix = ids[:depth]
            following = {path[depth] for path in allowed if path[:depth] == prefix}
            weights = np.exp(model_log_probs(prefix, row) - model_log_probs(prefix, row).max())
            probability *= weights[token] / sum(weights[other] for other in following)
        result.append(probability)
    return np.array(result)


def scores(trie: DescriptionTrie, batch: int) -> list[np.ndarray]:
    return [
        np.stack([model_log_probs(branch.path, row)[branch.tokens] for row in range(batch)])
        for branch in trie.branches
    ]


@settings(deadline=None)
@given(token_ids=descriptions, data=st.data())
def test_the_distribution_is_that_of_walking_each_description(token_ids, data):
    clusters = st.lists(st.booleans(), min_size=len(token_ids), max_size=len(token_ids))
    excluded = np.array(data.draw(st.lists(clusters, min_size=1, max_size=3)))
    trie = DescriptionTrie(token_ids, END)
    found = trie.log_probabilities(scores(trie, len(excluded)), excluded)
    expected = np.stack([walk(token_ids, out, row) for row, out in enumerate(excluded)])
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-9, atol=1e-300)
    np.testing.assert_array_equal(np.isneginf(found), excluded)
    np.testing.assert_allclose(np.exp(found).sum(1), (~excluded).any(1).astype(float))


@given(token_ids=descriptions)
def test_branches_are_the_prefixes_with_a_choice_shortest_first(token_ids):
    below: dict[tuple[int, ...], dict[int, set[int]]] = {}
    for cluster, ids in enumerate(token_ids):
        path = (*ids, END)
        for depth, token in enumerate(path):
            below.setdefault(path[:depth], {}).setdefault(token, set()).add(cluster)
    expected = sorted(
        (len(path), path, {token: sorted(clusters) for token, clusters in tokens.items()})
        for path, tokens in below.items()
        if len(tokens) > 1
    )
    found = [
        (
            len(branch.path),
            branch.path,
            {
                int(token): sorted(clusters.tolist())
                for token, clusters in zip(branch.tokens, branch.clusters, strict=True)
            },
        )
        for branch in DescriptionTrie(token_ids, END).branches
    ]
    assert found == expected


def test_one_description_needs_no_model_and_is_certain():
    trie = DescriptionTrie([[1, 2, 3]], END)
    assert trie.branches == ()
    assert trie.log_probabilities([], np.zeros((2, 1), bool)).tolist() == [[0.0], [0.0]]


def test_scores_that_lead_only_to_excluded_clusters_are_not_read():
    trie = DescriptionTrie([[1, 1], [1, 2], [2]], END)
    excluded = np.array([[True, True, False]])
    nothing = [np.array([[np.nan, -1.0]]), np.array([[np.nan, np.nan]])]
    assert trie.log_probabilities(nothing, excluded).tolist() == [[-np.inf, -np.inf, 0.0]]


def test_a_missing_score_of_an_allowed_token_is_an_error():
    trie = DescriptionTrie([[1], [2]], END)
    with pytest.raises(ValueError, match=r"no usable log-probability .*\[1, 2\]"):
        trie.log_probabilities([np.array([[np.nan, 0.0]])], np.zeros((1, 2), bool))


def test_equal_descriptions_are_refused():
    with pytest.raises(ValueError, match=r"clusters 1 and 3 .* \[2, 2\]"):
        DescriptionTrie([[1], [2, 2], [2], [2, 2]], END)


def test_the_end_token_inside_a_description_is_refused():
    with pytest.raises(ValueError, match="cluster 1 contains the end token 9"):
        DescriptionTrie([[1], [2, 9, 2]], END)


def test_no_descriptions_are_refused():
    with pytest.raises(ValueError, match="no descriptions"):
        DescriptionTrie([], END)
