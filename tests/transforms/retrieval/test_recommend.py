"""From the answers of the SavedModel to rows."""

import numpy as np
import pyarrow as pa

from transforms.retrieval.recommend import recommendations


def test_padding_goes_and_users_without_a_novel_cluster_have_no_row() -> None:
    answer = {
        "novel_cluster": np.array([4, -1], np.int32),
        "c1": np.array([1, -1], np.int32),
        "c2": np.array([2, -1], np.int32),
        "probability": np.array([0.5, 0], np.float32),
        "item_ids": np.array([["ä".encode(), b""], [b"", b""]], object),
        "propensity": np.array([0.25, 1], np.float32),
        "scores": np.array([[1.5, -np.inf], [-np.inf, -np.inf]], np.float32),
    }
    assert recommendations(pa.array(["u", "v"]), answer).to_pylist() == [
        {
            "user_id": "u",
            "novel_cluster": 4,
            "c1": 1,
            "c2": 2,
            "probability": 0.5,
            "item_ids": ["ä"],
            "scores": [1.5],
            "propensity": 0.25,
        }
    ]
