"""ClusterTopK against brute force with a mask: the same identifiers and the same bits of scores.

Vectors and queries here are small multiples of 1/8, so that float32 sums are exact in whatever
order they are made, and many scores are equal.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.retrieval.serving.cluster_top_k import ClusterTopK, distinct, order_key, tf, tfrs

CLUSTERS, DIMENSION, BATCH = 6, 3, 4
Answer = tuple[np.ndarray, np.ndarray]

quick = settings(max_examples=40, derandomize=True, deadline=None)


def vectors(rows: st.SearchStrategy[int] | int) -> st.SearchStrategy[np.ndarray]:
    rows = rows if isinstance(rows, st.SearchStrategy) else st.just(rows)
    eighths = st.integers(-4, 4).map(lambda number: number / 8)
    shapes = rows.map(lambda count: (count, DIMENSION))
    return shapes.flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=eighths))


def clusters_of(count: int) -> st.SearchStrategy[np.ndarray]:
    # Of six clusters some stay empty, and some candidates are of none.
    return arrays.arrays(np.int32, count, elements=st.integers(-1, CLUSTERS - 1))


def ids(low: int, high: int, most: int) -> st.SearchStrategy[np.ndarray]:
    shapes = st.integers(0, most).map(lambda width: (BATCH, width))
    return shapes.flatmap(
        lambda shape: arrays.arrays(np.int32, shape, elements=st.integers(low, high))
    )


def brute_force(
    candidates: np.ndarray,
    clusters: np.ndarray,
    queries: np.ndarray,
    cluster_ids: np.ndarray,
    exclusions: np.ndarray,
    k: int,
) -> Answer:
    """Score everything, mask, sort: scores and positions [batch, k]."""
    scores = np.full([len(queries), k], -np.inf, np.float32)
    found = np.full([len(queries), k], -1, np.int32)
    for row, query in enumerate(queries):
        every = candidates @ query
        asked = (clusters >= 0) & np.isin(clusters, cluster_ids[row])
        allowed = np.flatnonzero(asked & ~np.isin(np.arange(len(clusters)), exclusions[row]))
        best = sorted(allowed, key=lambda position: (-every[position], position))[:k]
        scores[row, : len(best)] = every[best]
        found[row, : len(best)] = best
    return scores, found


def assert_equal(answer: tuple[tf.Tensor, tf.Tensor], expected: Answer) -> None:
    np.testing.assert_array_equal(answer[1].numpy(), expected[1])
    np.testing.assert_array_equal(answer[0].numpy(), expected[0])


@quick
@given(
    candidates=vectors(st.integers(1, 25)),
    queries=vectors(BATCH),
    # No cluster: below 0 and from M on.
    cluster_ids=ids(-2, CLUSTERS + 1, 4),
    exclusions=ids(-1, 30, 5),  # some are of no candidate
    k=st.sampled_from([1, 3, 30]),
    data=st.data(),
)
def test_equals_brute_force_with_a_mask(
    candidates: np.ndarray,
    queries: np.ndarray,
    cluster_ids: np.ndarray,
    exclusions: np.ndarray,
    k: int,
    data: st.DataObject,
) -> None:
    clusters = data.draw(clusters_of(len(candidates)))
    layer = ClusterTopK(CLUSTERS, k=k).index(candidates, clusters=clusters)
    answer = layer.query_with_exclusions((queries, cluster_ids), tf.constant(exclusions))
    assert_equal(answer, brute_force(candidates, clusters, queries, cluster_ids, exclusions, k))


@quick
@given(ids(-1, CLUSTERS, 8))
def test_distinct_ids_are_as_wide_as_the_most_of_a_row(rows: np.ndarray) -> None:
    expected = [sorted({*row.tolist()} - {-1}, reverse=True) for row in rows]
    width = max(map(len, expected))
    filled = [row + [-1] * (width - len(row)) for row in expected]
    assert distinct(tf.constant(rows)).numpy().tolist() == filled


def test_distinct_ids_of_no_query_are_none() -> None:
    assert distinct(tf.zeros([0, 3], tf.int32)).shape == (0, 0)


RNG = np.random.default_rng(0)
CANDIDATES = RNG.normal(size=(2000, 65)).astype(np.float32)
OF = RNG.integers(-1, CLUSTERS, 2000).astype(np.int32)
QUERIES = RNG.normal(size=(BATCH, 65)).astype(np.float32)
ASKED = np.array([[0], [3], [5], [0]], np.int32)


def test_scores_have_the_bits_of_tfrs_brute_force_query_by_query() -> None:
    layer = ClusterTopK(CLUSTERS, k=10).index(CANDIDATES, clusters=OF)
    scores, found = layer((QUERIES, ASKED))
    # All of its candidates, so that a mask can be laid over its answer.
    everything = tfrs.layers.factorized_top_k.BruteForce(k=2000).index(tf.constant(CANDIDATES))
    for row in range(BATCH):
        every, positions = (part.numpy()[0] for part in everything(QUERIES[row : row + 1]))
        allowed = OF[positions] == ASKED[row]
        np.testing.assert_array_equal(found[row], positions[allowed][:10])
        np.testing.assert_array_equal(scores[row], every[allowed][:10])


def test_answer_does_not_depend_on_the_batch() -> None:
    layer = ClusterTopK(CLUSTERS, k=10).index(CANDIDATES, clusters=OF)
    scores, found = layer((QUERIES, ASKED))
    for row in range(BATCH):
        alone = layer((QUERIES[row : row + 1], ASKED[row : row + 1]))
        assert_equal(alone, (scores[row : row + 1].numpy(), found[row : row + 1].numpy()))


def test_string_identifiers_are_returned_and_excluded() -> None:
    layer = ClusterTopK(2, k=3).index(
        tf.constant([[1.0], [3.0], [2.0], [9.0]]), tf.constant(["a", "b", "c", "d"]), [0, 0, 0, 1]
    )
    scores, found = layer.query_with_exclusions(
        (tf.ones([1, 1]), tf.constant([[0]])), tf.constant([["c", "unheard of", "", "d"]])
    )
    assert found.numpy().tolist() == [[b"b", b"a", b""]]
    assert scores.numpy().tolist() == [[3.0, 1.0, -np.inf]]


def test_k_of_a_call_goes_before_that_of_the_layer() -> None:
    layer = ClusterTopK(CLUSTERS, k=10).index(CANDIDATES, clusters=OF)
    assert layer((QUERIES, ASKED), k=7)[0].shape == (BATCH, 7)


def test_index_replaces_the_earlier_one() -> None:
    layer = ClusterTopK(CLUSTERS).index(CANDIDATES, clusters=OF)
    layer((QUERIES, ASKED))
    layer.index(tf.constant([[2.0]]), tf.constant(["only"]), [4])
    _, found = layer((tf.ones([1, 1]), tf.constant([[4]])), k=2)
    assert found.numpy().tolist() == [[b"only", b""]]
    assert sum(int(tf.size(weight)) for weight in layer.weights) == 3 + CLUSTERS + 1


def test_vectors_are_read_without_a_copy_after_a_query() -> None:
    layer = ClusterTopK(CLUSTERS).index(CANDIDATES, clusters=OF)
    layer.query_with_exclusions((QUERIES, ASKED), tf.zeros([BATCH, 1], tf.int32))
    one, other = (np.asarray(memoryview(layer.vectors())) for _ in range(2))
    assert np.shares_memory(one, other)


def test_is_a_top_k_of_tfrs_and_exact() -> None:
    layer = ClusterTopK(CLUSTERS)
    assert isinstance(layer, tfrs.layers.factorized_top_k.TopK)
    assert layer.is_exact()


def test_query_without_an_index_is_an_error() -> None:
    with pytest.raises(ValueError, match="call `index`"):
        ClusterTopK(CLUSTERS)((QUERIES, ASKED))


@pytest.mark.parametrize(
    ("identifiers", "clusters", "message"),
    [
        (None, None, "clusters are missing"),
        (None, [0, 1], "one of each"),
        (["a"], [0, 1, 1], "one of each"),
        (None, [0, 1, CLUSTERS], "clusters 0 to 6"),
        (None, [0, 1, -2], "clusters -2 to 1"),
        (["a", "b", "a"], [0, 1, 1], "repeats"),
    ],
)
def test_index_rejects(
    identifiers: list[str] | None, clusters: list[int] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ClusterTopK(CLUSTERS).index(tf.zeros([3, 2]), identifiers, clusters)


@pytest.mark.parametrize("shape", [[3], [0, 2]])
def test_index_rejects_candidates_that_are_no_matrix(shape: list[int]) -> None:
    with pytest.raises(ValueError, match="at least 1, d"):
        ClusterTopK(CLUSTERS).index(tf.zeros(shape), clusters=[0] * shape[0])


def test_no_clusters_is_an_error() -> None:
    with pytest.raises(ValueError, match="clusters is 0"):
        ClusterTopK(0)


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_subnormal=False), min_size=2, max_size=8)
)
def test_order_key_sorts_by_score_then_index(scores: list[float]) -> None:
    index = np.arange(len(scores))
    keys = order_key(tf.constant(scores, tf.float32), tf.constant(index)).numpy()
    expected = sorted(index.tolist(), key=lambda item: (-scores[item], item))
    assert np.argsort(-keys.astype(object), kind="stable").tolist() == expected
