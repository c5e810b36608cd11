"""The sample that clusters are fitted on."""

import numpy as np
import pytest

from tests.transforms.clusters.item_tables import items, sample_of
from transforms.clusters.fit_sample import TREE_SAMPLE, DrawSample
from transforms.clusters.item_traffic import add_traffic


@pytest.mark.parametrize("size", [1, 7, 29, 30, 100])
def test_a_sample_drawn_part_by_part_is_that_of_all_items(size: int) -> None:
    table = add_traffic(items(30), np.arange(30.0) ** 2)
    draw = DrawSample(size, 0)
    accumulators = []
    for begin in (20, 0):
        accumulator = draw.create_accumulator()
        for part in (table.slice(begin + 5, 5), table.slice(begin, 5), table.slice(0, 0)):
            accumulator = draw.add_input(accumulator, part)
        accumulators.append(accumulator)
    accumulators.append(draw.add_input(draw.create_accumulator(), table.slice(10, 10)))
    found = draw.extract_output(draw.merge_accumulators(accumulators))
    assert found.equals(sample_of(table, size))
    assert found.num_rows == min(size, 30)
    assert found.schema == TREE_SAMPLE
