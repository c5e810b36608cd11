"""From the rows of a novelty table to the table in memory."""

import numpy as np
import pyarrow as pa

from transforms import schemas as col
from transforms.language.read_novelty_table import to_novelty_table


def test_the_table_is_indexed_by_the_pair_and_padded() -> None:
    rows = pa.table(
        [
            pa.array([1, 0, 0, 1], pa.int32()),
            pa.array([1, 1, 0, 0], pa.int32()),
            pa.array([[0], [], [1], []], pa.list_(pa.int32())),
            pa.array([[0.5], [], [0.25], []], pa.list_(pa.float32())),
        ],
        schema=col.NOVELTY_TABLE,
    )
    table = to_novelty_table(rows, ["a", "b"])
    np.testing.assert_array_equal(table.novel[..., 0], [[1, -1], [-1, 0]])
    np.testing.assert_array_equal(table.probability[..., 0], [[0.25, 0], [0, 0.5]])
