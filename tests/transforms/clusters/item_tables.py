"""Tables of items for tests."""

import numpy as np
import pyarrow as pa

from transforms import schemas as col
from transforms.clusters.fit_sample import DrawSample


def items(count: int, dimension: int = 4) -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table(
        [
            [f"item{number:02d}" for number in range(count)],
            [f"title {number}" for number in range(count)],
            [["spice", f"taste{number % 3}"] for number in range(count)],
            [None] * count,
            rng.normal(size=(count, dimension)).tolist(),
            [True] * count,
        ],
        schema=col.ITEMS,
    )


def sample_of(table: pa.Table, size: int = 1_000) -> pa.Table:
    draw = DrawSample(size, 0)
    return draw.extract_output(draw.add_input(draw.create_accumulator(), table))
