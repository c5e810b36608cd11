"""Items into clusters: the table functions around the tree."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.language.language_model import load_tokenizer
from models.language.prompt import completion_token_ids
from tests.models.language.tiny_llm import save_tiny_llm
from transforms import clusters
from transforms import schemas as col
from transforms.errors import InputError
from transforms.sharding import split_by_hash


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llm(tmp_path_factory.mktemp("model") / "tiny")


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


def with_traffic(table: pa.Table) -> pa.Table:
    return clusters.add_traffic(table, np.zeros(table.num_rows))


def sample_of(table: pa.Table, size: int = 1_000) -> pa.Table:
    return clusters.drawn(clusters.weighted_sample(table, size, 0), size, 0)


def fit(table: pa.Table, sizes: list[int]) -> clusters.FittedClusters:
    return clusters.fit_tree(sample_of(table), sizes, None)


def list_clusters(
    table: pa.Table, fitted: clusters.FittedClusters, keyword_count: int, base_model: Path | str
) -> pa.Table:
    names = clusters.name_clusters(sample_of(table), fitted, keyword_count, str(base_model))
    assigned = clusters.assign(table, fitted.tree)
    counts = [
        clusters.count_finest(part, fitted.tree.sizes)
        for part in (assigned.slice(0, 2), assigned.slice(2), assigned.slice(0, 0))
    ]
    return clusters.cluster_table(names, fitted.tree, counts)


@given(st.lists(st.lists(st.integers(0, 20))), st.lists(st.lists(st.integers(0, 20))))
def test_traffic_of_an_item_is_its_interactions(
    one: list[list[int]], other: list[list[int]]
) -> None:
    count = clusters.CountTraffic()
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
    split = clusters.traffic_of_parts(np.array(traffic, float), ids, parts)
    assert len(split) == parts
    of_part = dict(split_by_hash(pa.table({"id": ids}), "id", parts))
    for number, found in enumerate(split):
        table = of_part.get(number)
        own = [] if table is None else table["id"].to_pylist()
        assert found.tolist() == [expected.get(name, 0) for name in own]


@pytest.mark.parametrize("size", [1, 7, 29, 30, 100])
def test_a_sample_drawn_part_by_part_is_that_of_all_items(size: int) -> None:
    table = clusters.add_traffic(items(30), np.arange(30.0) ** 2)
    draw = clusters.DrawSample(size, 0)
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
    assert found.schema == clusters.TREE_SAMPLE


def test_text_of_an_item_joins_what_is_there() -> None:
    table = pa.table(
        [
            ["a", "b"],
            ["Tea", None],
            [["green", "hot"], None],
            ["from China", "salt"],
            [None, None],
            [True, True],
        ],
        schema=col.ITEMS,
    )
    assert clusters.item_texts(table) == ["Tea | green, hot | from China", "salt"]


def test_embeddings_of_different_lengths_are_named() -> None:
    table = pa.concat_tables([items(3, 4), items(2, 5)])
    with pytest.raises(InputError, match=r"4 \(3 items\), 5 \(2 items\)"):
        clusters.embeddings_of(table)


def test_fewer_items_than_clusters_is_an_error_with_both_numbers() -> None:
    with pytest.raises(InputError, match=r"8 clusters need .* only 5"):
        fit(with_traffic(items(5)), [4, 8])


def test_clusters_are_counted_and_weighed_at_every_level(base_model: Path) -> None:
    traffic = np.random.default_rng(1).integers(0, 9, 30).astype(float)
    table = clusters.add_traffic(items(30), traffic)
    fitted = fit(table, [2, 6])
    assigned = clusters.assign(table, fitted.tree)[col.CLUSTER_IDS].to_pylist()
    named = list_clusters(table, fitted, 2, base_model)
    for level, size in enumerate((2, 6)):
        rows = [row for row in named.to_pylist() if row["level"] == level]
        assert [row["cluster_id"] for row in rows] == list(range(size))
        for row in rows:
            members = [at for at, ids in enumerate(assigned) if ids[level] == row["cluster_id"]]
            assert row["item_count"] == len(members)
            assert row["traffic"] == sum(traffic[members])
        assert all((row["parent_id"] is None) == (level == 0) for row in rows)


def test_items_that_are_embedded_otherwise_than_the_sample_are_an_error() -> None:
    fitted = fit(with_traffic(items(10)), [3])
    with pytest.raises(InputError, match=r"different lengths: .* 5 dimensions, the tree 4"):
        clusters.assign(with_traffic(items(2, 5)), fitted.tree)


def test_items_that_are_embedded_otherwise_have_no_features() -> None:
    fitted = fit(with_traffic(items(10)), [3])
    with pytest.raises(InputError, match="different lengths: 5 and 4"):
        clusters.item_features(items(2, 5), fitted.projection)


@pytest.mark.parametrize("count", [0, 3])
def test_each_item_has_its_features(count: int) -> None:
    table = items(10)
    fitted = fit(with_traffic(table), [3])
    features = clusters.item_features(table.slice(4, count), fitted.projection)
    assert features.schema == col.ITEM_FEATURES
    assert features[col.ITEM_ID].to_pylist() == table[col.ITEM_ID].to_pylist()[4 : 4 + count]
    whole = clusters.item_features(table, fitted.projection)[col.FEATURES].to_pylist()
    for found, expected in zip(features[col.FEATURES].to_pylist(), whole[4:], strict=False):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_assigning_no_items_gives_no_rows() -> None:
    table = with_traffic(items(10))
    fitted = fit(table, [3])
    assert clusters.assign(table.slice(0, 0), fitted.tree).num_rows == 0


def test_the_first_token_is_that_of_the_description_behind_a_prompt(base_model: Path) -> None:
    tokenizer = load_tokenizer(str(base_model))
    keywords = ["romance", "romcom", "sci-fi", "r&b", "été", "咖啡机", "x"]
    for rest in ("", ", running shoes"):
        assert clusters.first_tokens(tokenizer, keywords) == [
            completion_token_ids(tokenizer, "Latest: tea\nNext:\n", keyword + rest)[0]
            for keyword in keywords
        ]


def test_no_keywords_have_no_first_tokens(base_model: Path) -> None:
    assert clusters.first_tokens(load_tokenizer(str(base_model)), []) == []


def test_clusters_are_told_apart_by_the_base_models_first_token(base_model: Path) -> None:
    owned = [["romance"], ["robot", "mystery"], ["running", "green"]]  # three begin with token "r"
    table = with_traffic(items(3))
    for name, values in ((col.TITLE, [None] * 3), (col.KEYWORDS, owned)):
        field = table.schema.field(name)
        at = table.schema.get_field_index(name)
        table = table.set_column(at, field, pa.array(values, field.type))
    fitted = fit(table, [3])
    named = list_clusters(table, fitted, 1, base_model)
    assert set(named[col.DESCRIPTION].to_pylist()) == {"romance", "mystery", "green"}


def test_a_base_model_that_is_not_there_is_an_error() -> None:
    table = with_traffic(items(6))
    fitted = fit(table, [3])
    with pytest.raises(InputError, match=r"--base_model: the language model '\./nowhere'"):
        list_clusters(table, fitted, 2, "./nowhere")


def test_what_cannot_be_measured_is_null_in_the_manifest() -> None:
    fitted = fit(with_traffic(items(4)), [4])
    named = pa.table({col.LEVEL: pa.array([0] * 4, pa.int32()), col.TRAFFIC: [1.0, 1.0, 1.0, 5.0]})
    figures = clusters.quality_tally(named, fitted).figures
    assert figures["coherence"] == [None]
    assert figures["balance"] == [2.5]
