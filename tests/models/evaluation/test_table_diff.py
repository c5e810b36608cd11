"""What differs between two versions of a novelty table."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.table_diff import (
    jaccard,
    new_ids,
    table_diff,
    total_variation,
)
from models.interests.novelty_table import NoveltyTable
from transforms import schemas as col


def random_table(names: list[str], n: int, seed: int) -> NoveltyTable:
    rng, size = np.random.default_rng(seed), len(names)
    novel = np.full((size**2, n), -1, np.int32)
    probability = np.zeros((size**2, n), np.float32)
    for row in range(size**2):
        others = rng.permutation([i for i in range(size) if i not in divmod(row, size)])
        count = min(n, len(others), int(rng.integers(0, n + 1)))
        novel[row, :count] = others[:count]
        probability[row, :count] = np.sort(rng.dirichlet(np.ones(n))[:count])[::-1]
    return NoveltyTable(novel.reshape(size, size, n), probability.reshape(size, size, n), names)


def answers(table: NoveltyTable, c1: str, c2: str) -> dict[str, float]:
    """Return what a table says after two named interests, by name."""
    names = table.descriptions
    pair = names.index(c1), names.index(c2)
    listed = zip(table.novel[pair], table.probability[pair], strict=True)
    return {names[i]: float(p) for i, p in listed if i >= 0}


BEFORE = random_table(["art", "bikes", "cats", "dogs", "eggs"], 3, 1)
# cats are gone, ants took the freed id, foxes are new
AFTER = random_table(["art", "bikes", "ants", "dogs", "eggs", "foxes"], 4, 2)
IDS = new_ids(BEFORE.descriptions, AFTER.descriptions, None)
KEPT = ["art", "bikes", "dogs", "eggs"]


def test_without_a_mapping_one_id_and_description_is_one_cluster() -> None:
    assert IDS.tolist() == [0, 1, -1, 3, 4]


def test_a_mapping_says_what_a_cluster_is_called_now() -> None:
    mapping = pa.table(
        {"old_id": [0, 1, None, 2], "new_id": [2, None, 1, 0]}, schema=col.CLUSTER_MAPPING
    )
    assert new_ids(["a", "b", "c"], ["a", "b", "c"], mapping).tolist() == [2, -1, 0]


def test_the_diff_agrees_with_a_slow_one_by_name() -> None:
    found = table_diff(BEFORE, AFTER, IDS, most=1000)
    changed, overlaps, distances, won, lost = 0, [], {}, {}, {}
    for c1 in KEPT:
        for c2 in KEPT:
            old, new = answers(BEFORE, c1, c2), answers(AFTER, c1, c2)
            was, now = next(iter(old), None), next(iter(new), None)
            if was != now:
                changed += 1
                won[now] = won.get(now, 0) + 1
                lost[was] = lost.get(was, 0) + 1
            either = {*list(old)[:5], *list(new)[:5]}
            both = {*list(old)[:5]} & {*list(new)[:5]}
            overlaps.append(len(both) / len(either) if either else 1)
            names = {*old, *new}
            distances[c1, c2] = sum(abs(old.get(x, 0) - new.get(x, 0)) for x in names) / 2
    assert found["pairs"] == 16
    assert found["clusters"] == {"before": 5, "after": 6, "kept": 4}
    assert found["changed"] == changed / 16
    assert found["jaccard"]["mean"] == pytest.approx(np.mean(overlaps))
    assert {row["description"]: row["won"] for row in found["winners"] if row["won"]} == {
        name: count for name, count in won.items() if name
    }
    assert {row["description"]: row["lost"] for row in found["winners"] if row["lost"]} == {
        name: count for name, count in lost.items() if name
    }
    for row in found["most_changed"]:
        assert row["distance"] == pytest.approx(distances[row["c1"], row["c2"]])
    listed = [row["distance"] for row in found["most_changed"]]
    assert listed == sorted(listed, reverse=True)
    assert len(listed) == sum(distance > 0 for distance in distances.values())


def test_most_changed_pairs_carry_both_first_answers() -> None:
    for row in table_diff(BEFORE, AFTER, IDS)["most_changed"]:
        for version, table in (("before", BEFORE), ("after", AFTER)):
            first = next(iter(answers(table, row["c1"], row["c2"]).items()), None)
            said = row[version] and (row[version]["description"], row[version]["probability"])
            assert said == (first and (first[0], pytest.approx(first[1], abs=1e-6)))


def test_a_cluster_that_is_gone_loses_and_has_no_id() -> None:
    cats = [
        row for row in table_diff(BEFORE, AFTER, IDS)["winners"] if row["description"] == "cats"
    ]
    assert [(row["cluster_id"], row["won"]) for row in cats] == [(None, 0)]
    assert cats[0]["lost"] > 0


def test_a_table_does_not_differ_from_itself() -> None:
    ids = np.arange(6, dtype=np.int32)
    same = table_diff(AFTER, AFTER, ids)
    assert (same["changed"], same["jaccard"]["mean"]) == (0, 1)
    assert (same["winners"], same["most_changed"]) == ([], [])


def test_new_numbers_of_the_same_clusters_are_no_change() -> None:
    order = np.array([3, 1, 5, 0, 2, 4], np.int32)  # new id of each old one
    size = len(order)
    novel = np.empty_like(AFTER.novel)
    probability = np.empty_like(AFTER.probability)
    for c1 in range(size):
        for c2 in range(size):
            pair = order[c1], order[c2]
            novel[pair] = [order[i] if i >= 0 else -1 for i in AFTER.novel[c1, c2]]
            probability[pair] = AFTER.probability[c1, c2]
    names = [AFTER.descriptions[i] for i in np.argsort(order)]
    diff = table_diff(AFTER, NoveltyTable(novel, probability, names), order)
    assert (diff["changed"], diff["most_changed"]) == (0, [])


def test_tables_without_a_common_cluster_changed_wholly() -> None:
    diff = table_diff(BEFORE, AFTER, np.full(5, -1, np.int32))
    assert (diff["pairs"], diff["changed"], diff["most_changed"]) == (0, 1.0, [])


ROW = st.lists(st.integers(0, 6), max_size=4, unique=True)


@given(ROW, ROW)
def test_jaccard_is_that_of_sets(a: list[int], b: list[int]) -> None:
    expected = len({*a} & {*b}) / len({*a} | {*b}) if a or b else 1
    padded = [np.array([row + [-1] * (4 - len(row))]) for row in (a, b)]
    assert jaccard(*padded).tolist() == [expected]


@given(ROW, ROW)
def test_total_variation_takes_what_is_not_listed_as_zero(a: list[int], b: list[int]) -> None:
    p, q = ({name: 1 / len(row) for name in row} for row in (a, b))
    expected = sum(abs(p.get(x, 0) - q.get(x, 0)) for x in {*a, *b}) / 2
    ids = [np.array([row + [-1] * (4 - len(row))]) for row in (a, b)]
    shares = [np.full((1, 4), 1 / max(1, len(row))) for row in (a, b)]
    found = total_variation(ids[0], shares[0], ids[1], shares[1], 7)
    assert found.tolist() == [pytest.approx(expected)]
