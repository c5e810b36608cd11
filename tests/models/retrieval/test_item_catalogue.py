"""What a catalogue refuses, and what tells it from another."""

import numpy as np
import pyarrow as pa
import pytest

from models.retrieval.item_catalogue import Catalogue, vocabulary


@pytest.mark.parametrize(
    ("ids", "clusters", "message"),
    [
        (["a", "a"], [0, 0], "distinct"),
        (["a", ""], [0, 0], "not empty"),
        (["a", "b"], [0], "one length"),
        (["a", "b"], [0, -1], "cluster -1"),
        ([], [], "no items"),
    ],
)
def test_catalogue_rejects(ids: list[str], clusters: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Catalogue(np.array(ids), np.array(clusters, np.int32), np.ones(len(ids), bool))


@pytest.mark.parametrize("shape", [(1, 3), (2,)])
def test_catalogue_rejects_features_of_other_items(shape: tuple[int, ...]) -> None:
    features = np.ones(shape, np.float32)
    with pytest.raises(ValueError, match=r"features have shape .* for 2 items"):
        Catalogue(np.array(["a", "b"]), np.zeros(2, np.int32), np.ones(2, bool), features)


def test_a_catalogue_without_features_has_none_of_each_item() -> None:
    assert Catalogue(np.array(["a"]), np.zeros(1, np.int32), np.ones(1, bool)).features.shape == (
        1,
        0,
    )


def test_the_vocabulary_tells_items_their_order_and_clusters_apart() -> None:
    ids, clusters = np.array(["a", "bc"]), np.array([0, 1], np.int32)
    same = vocabulary(ids, clusters)
    assert vocabulary(pa.array(ids), clusters.astype(np.int64)) == same
    assert vocabulary(np.array(["a", "bc"], object), clusters) == same
    others = [(ids[::-1], clusters), (ids, clusters[::-1]), (np.array(["ab", "c"]), clusters)]
    assert same not in {vocabulary(*other) for other in others}
