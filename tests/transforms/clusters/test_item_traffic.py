"""How often users took up each item."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from transforms.clusters.item_traffic import CountTraffic, traffic_of_parts
from transforms.tables.sharding import split_by_hash


@given(st.lists(st.lists(st.integers(0, 20))), st.lists(st.lists(st.integers(0, 20))))
def test_traffic_of_an_item_is_its_interactions(
    one: list[list[int]], other: list[list[int]]
) -> None:
    count = CountTraffic()
    accumulators = []
    for worker in (one, other):
        accumulators.append(count.create_accumulator())
        for batch in worker:
            accumulators[-1] = count.add_input(accumulators[-1], np.array(batch, np.int32))
    traffic = count.extract_output(count.merge_accumulators(accumulators))
    found = [item for batch in one + other for item in batch]
    assert len(traffic) == max(found, default=-1) + 1
    assert traffic.tolist() == [found.count(item) for item in range(len(traffic))]


@given(st.sets(st.text("abc", max_size=4)), st.integers(1, 5), st.data())
def test_each_part_gets_the_traffic_of_its_items(
    names: set[str], parts: int, data: st.DataObject
) -> None:
    ids = pa.array(sorted(names), pa.string())
    known = data.draw(st.integers(0, len(ids)))
    traffic = data.draw(st.lists(st.integers(0, 9), min_size=known, max_size=known))
    expected = dict(zip(ids.to_pylist(), traffic, strict=False))
    split = traffic_of_parts(np.array(traffic, float), ids, parts)
    assert len(split) == parts
    of_part = dict(split_by_hash(pa.table({"id": ids}), "id", parts))
    for number, found in enumerate(split):
        table = of_part.get(number)
        own = [] if table is None else table["id"].to_pylist()
        assert found.tolist() == [expected.get(name, 0) for name in own]
