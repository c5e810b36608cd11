"""Clusters of a rerun keep the numbers of those that they are."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.clustering.cluster_matching import match_clusters, renumbered
from models.clustering.cluster_tree import assign_clusters
from models.clustering.fit_cluster_tree import fit_cluster_tree

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(PAIRS)
def test_the_matching_is_the_best_of_all_permutations(pairs):
    old, new = map(np.array, zip(*pairs, strict=True))

    def similarity(permutation):
        total = 0.0
        for cluster, earlier in enumerate(permutation):
            either = ((new == cluster) | (old == earlier)).sum()
            total += ((new == cluster) & (old == earlier)).sum() / max(1, either)
        return total

    found = match_clusters(old, new, 4)
    assert sorted(found.old_ids.tolist()) == [0, 1, 2, 3]
    best = max(similarity(one) for one in itertools.permutations(range(4)))
    assert abs(similarity(found.old_ids) - best) < 1e-9


@given(st.permutations(range(5)), st.lists(st.integers(0, 4), min_size=5, max_size=50))
def test_the_same_clusters_under_other_numbers_did_not_change(numbers, clusters):
    old = np.array([*range(5), *clusters])
    found = match_clusters(old, np.array(numbers)[old], 5)
    assert found.old_ids[numbers].tolist() == [0, 1, 2, 3, 4]
    assert found.unchanged.all()


def test_a_cluster_that_lost_much_of_its_items_changed():
    old = np.repeat([0, 1, 2], 10)
    new = np.concatenate([np.repeat([0, 1], [7, 3]), np.repeat([1, 2], 10)])
    assert match_clusters(old, new, 3).unchanged.tolist() == [False, False, True]


def test_a_renumbered_tree_assigns_the_same_clusters_under_their_new_numbers():
    embeddings = np.random.default_rng(0).normal(size=(300, 8))
    tree = fit_cluster_tree(embeddings, np.ones(300), (3, 9))
    ids = assign_clusters(tree, embeddings)
    rng = np.random.default_rng(1)
    numbers = [rng.permutation(size) for size in (3, 9)]
    old = np.stack([numbers[level][ids[:, level]] for level in (0, 1)], axis=1)
    matches = [match_clusters(old[:, at], ids[:, at], size) for at, size in enumerate((3, 9))]
    assert (assign_clusters(renumbered(tree, matches), embeddings) == old).all()
