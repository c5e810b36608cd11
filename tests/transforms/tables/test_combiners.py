"""Sums of elements, in any grouping."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from transforms.storage.manifest import RowCounts
from transforms.tables.combiners import SumFn

row_counts = st.lists(
    st.builds(
        RowCounts,
        read=st.integers(0, 9),
        used=st.integers(-9, 9),
        dead=st.integers(0, 9),
        written=st.integers(0, 9),
        reasons=st.dictionaries(st.sampled_from("ab"), st.integers(1, 9)).map(Counter),
    ),
    max_size=8,
)


@given(row_counts, st.integers(0, 8))
def test_row_counts_add_up_in_any_grouping(parts: list[RowCounts], cut: int) -> None:
    combine = SumFn(RowCounts)
    halves = []
    for half in (parts[:cut], parts[cut:]):
        accumulator = combine.create_accumulator()
        for count in half:
            accumulator = combine.add_input(accumulator, count)
        halves.append(accumulator)
    total = combine.extract_output(combine.merge_accumulators(halves))
    for name in ("read", "used", "dead", "written"):
        assert getattr(total, name) == sum(getattr(count, name) for count in parts)
    assert total.reasons == sum((count.reasons for count in parts), Counter())


def test_the_sum_of_nothing_is_zero_or_none() -> None:
    for combine, expected in ((SumFn(int), 0), (SumFn(), None)):
        nothing = [combine.create_accumulator()] * 2
        assert combine.extract_output(combine.merge_accumulators(nothing)) == expected
