"""What a catalogue refuses."""

import numpy as np
import pytest

from models.item_catalogue import Catalogue


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
