"""The sample of training examples, against one drawn by sorting everything."""

from collections import Counter
from itertools import pairwise

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.eager import run
from transforms import schemas as col
from transforms.transitions.diversify import (
    STRATEGIES,
    DiversifyFn,
    Sampling,
    diversify,
)

LABELS = 5
Count = tuple[int, int, int, int]  # c1, c2, novel, users
ids = st.integers(0, LABELS - 1)
# Few ids: the same transition often comes again, with the same users or others.
rows = st.lists(st.tuples(ids, ids, ids, st.integers(1, 4)), max_size=80)
samplings = st.builds(
    Sampling,
    strategy=st.sampled_from(sorted(STRATEGIES)),
    per_label=st.integers(1, 4),
    labels=st.just(LABELS),
    seed=st.integers(0, 2**32 - 1),
)


def table(rows: list[Count]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [[]] * 4
    fields = zip(columns, col.TRANSITION_COUNTS, strict=True)
    return pa.table(
        [pa.array(column, field.type) for column, field in fields], schema=col.TRANSITION_COUNTS
    )


def split(rows: list[Count], cuts: list[int]) -> list[pa.Table]:
    """Return the rows as several tables, empty ones among them."""
    limits = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    return [table(rows[start:end]) for start, end in pairwise(limits)]


def oracle(rows: list[Count], sampling: Sampling) -> list[Count]:
    """Sort all distinct transitions of a group by their keys and take the first ones."""
    users: dict[tuple[int, ...], int] = {}
    for *triple, count in rows:
        users[tuple(triple)] = max(count, users.get(tuple(triple), 0))
    distinct = [(*triple, count) for triple, count in users.items()]
    distinct.sort(key=lambda row: sampling.keys(table([row]))[0])
    if sampling.strategy == "none":
        kept = distinct[: sampling.per_label * LABELS]
    else:
        of_label = [[row for row in distinct if row[2] == label] for label in range(LABELS)]
        kept = [row for some in of_label for row in some[: sampling.per_label]]
    return sorted(kept, key=lambda row: (row[2], row[0], row[1]))


@given(rows, samplings)
def test_the_smallest_keys_of_each_group_are_drawn(rows: list[Count], sampling: Sampling) -> None:
    drawn = diversify(table(rows), sampling).to_pylist()
    assert [tuple(row.values()) for row in drawn] == oracle(rows, sampling)


@given(rows, samplings, st.randoms(), st.lists(st.integers(0, 80), max_size=4))
def test_neither_order_nor_batches_nor_workers_matter(
    rows: list[Count], sampling: Sampling, random, cuts: list[int]
) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    combine = DiversifyFn(sampling)
    accumulators = [combine.create_accumulator()]
    for part in split(shuffled, cuts):
        if random.random() < 0.5:
            accumulators.append(combine.create_accumulator())
        accumulators[-1] = combine.add_input(accumulators[-1], part)
    random.shuffle(accumulators)
    merged = combine.extract_output(combine.merge_accumulators(accumulators))
    assert merged.equals(diversify(table(rows), sampling))


@given(rows, samplings)
def test_a_retried_bundle_counts_once(rows: list[Count], sampling: Sampling) -> None:
    twice = pa.concat_tables([table(rows), table(rows)])
    assert diversify(twice, sampling).equals(diversify(table(rows), sampling))


@given(rows, samplings)
def test_an_accumulator_is_no_larger_than_the_sample_may_be(
    rows: list[Count], sampling: Sampling
) -> None:
    combine = DiversifyFn(sampling)
    accumulator = combine.add_input(combine.create_accumulator(), table(rows))
    assert accumulator.num_rows <= sampling.per_label * LABELS


@pytest.mark.parametrize("strategy", ["uniform", "weighted"])
@given(rows=rows, per_label=st.integers(1, 4))
def test_each_label_has_all_its_pairs_up_to_the_cap(
    rows: list[Count], per_label: int, strategy: str
) -> None:
    drawn = diversify(table(rows), Sampling(strategy, per_label, LABELS, seed=1))
    pairs = Counter(label for _, _, label in {row[:3] for row in rows})
    kept = Counter(drawn[col.NOVEL].to_pylist())
    assert kept == {label: min(per_label, count) for label, count in pairs.items()}


@given(rows, st.integers(1, 4))
def test_without_diversification_there_are_as_many_rows_in_all(
    rows: list[Count], per_label: int
) -> None:
    drawn = diversify(table(rows), Sampling("none", per_label, LABELS, seed=1))
    assert drawn.num_rows == min(per_label * LABELS, len({row[:3] for row in rows}))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_another_seed_draws_another_sample(strategy: str) -> None:
    pairs = table([(c1, 200, 0, 1) for c1 in range(100)])
    first, second = (diversify(pairs, Sampling(strategy, 10, 1, seed)) for seed in (1, 2))
    assert not first.equals(second)


@pytest.mark.parametrize(("strategy", "share"), [("uniform", 0.5), ("weighted", 0.75)])
def test_one_of_two_pairs_is_drawn_with_the_odds_of_the_strategy(
    strategy: str, share: float
) -> None:
    labels = 4000  # each with a pair of 3 users and a pair of 1
    both = [(0, 0, label, 3) for label in range(labels)] + [
        (1, 1, label, 1) for label in range(labels)
    ]
    drawn = diversify(table(both), Sampling(strategy, 1, labels, seed=5))
    assert abs(np.mean(drawn[col.USERS].to_numpy() == 3) - share) < 0.03


def test_weighted_draws_follow_the_users_one_after_another() -> None:
    """Two of three pairs with 1, 2 and 3 users, against the odds of drawing one by one."""
    labels = 6000
    three = [(users, users, label, users) for label in range(labels) for users in (1, 2, 3)]
    drawn = diversify(table(three), Sampling("weighted", 2, labels, seed=5))
    weights = {1: 1, 2: 2, 3: 3}
    for left_out in weights:
        a, b = (users for users in weights if users != left_out)
        odds = a / 6 * b / (6 - a) + b / 6 * a / (6 - b)
        missing = 1 - np.sum(drawn[col.USERS].to_numpy() == left_out) / labels
        assert abs(missing - odds) < 0.03


def test_without_diversification_a_frequent_label_has_its_share() -> None:
    # A tenth of the labels has nine tenths of the users.
    labels, rng = 100, np.random.default_rng(0)
    c1, c2 = rng.integers(0, labels, 20_000), rng.integers(0, labels, 20_000)
    every = [
        (int(a), int(b), label, 81 if label < 10 else 1)
        for a, b, label in zip(c1, c2, np.arange(20_000) % labels, strict=True)
    ]
    drawn = diversify(table(every), Sampling("none", 1, labels, seed=3))
    assert drawn.num_rows == labels
    assert abs(np.mean(drawn[col.NOVEL].to_numpy() < 10) - 0.9) < 0.1


def drawn_by_beam(tables: list[pa.Table], sampling: Sampling) -> list[pa.Table]:
    return run(
        lambda pipeline: {
            "drawn": pipeline
            | beam.Create(tables, reshuffle=False).with_output_types(pa.Table)
            | beam.CombineGlobally(DiversifyFn(sampling)).with_output_types(pa.Table)
        }
    )["drawn"]


def test_the_transform_draws_one_table() -> None:
    rng, sampling = np.random.default_rng(0), Sampling("weighted", 3, LABELS, seed=2)
    rows = [(*map(int, rng.integers(0, LABELS, 3)), int(rng.integers(1, 9))) for _ in range(500)]
    [drawn] = drawn_by_beam(split(rows, [10, 10, 200, 450]), sampling)
    assert drawn.equals(diversify(table(rows), sampling))


def test_of_no_transitions_an_empty_table_is_drawn() -> None:
    [drawn] = drawn_by_beam([], Sampling("uniform", 3, LABELS, seed=2))
    assert drawn.equals(col.TRANSITION_COUNTS.empty_table())
