"""The packed novelty table."""

import numpy as np
import pyarrow as pa

from transforms import schemas as col
from transforms.retrieval import pack_novelty_table


def test_packed_table_is_indexed_by_the_pair_and_padded() -> None:
    table = pa.table(
        [
            pa.array([1, 0, 0, 1], pa.int32()),
            pa.array([1, 1, 0, 0], pa.int32()),
            pa.array([[0], [], [1], []], pa.list_(pa.int32())),
            pa.array([[0.5], [], [0.25], []], pa.list_(pa.float32())),
        ],
        schema=col.NOVELTY_TABLE,
    )
    novel, probability = pack_novelty_table(table, 2)
    np.testing.assert_array_equal(novel[..., 0], [[1, -1], [-1, 0]])
    np.testing.assert_array_equal(probability[..., 0], [[0.25, 0], [0, 0.5]])
