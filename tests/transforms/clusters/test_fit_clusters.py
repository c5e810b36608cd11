"""Items into clusters: the table functions around the tree."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.language.language_model import load_tokenizer
from models.language.prompt import completion_token_ids
from tests.models.language.tiny_llm import save_tiny_llm
from tests.transforms.clusters.item_tables import items, sample_of
from transforms import schemas as col
from transforms.clusters import describe_clusters, fit_clusters
from transforms.clusters.item_traffic import add_traffic
from transforms.errors import InputError


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llm(tmp_path_factory.mktemp("model") / "tiny")


def with_traffic(table: pa.Table) -> pa.Table:
    return add_traffic(table, np.zeros(table.num_rows))


def fit(table: pa.Table, sizes: list[int]) -> fit_clusters.FittedClusters:
    return fit_clusters.fit_tree(sample_of(table), sizes, 1, None)


def list_clusters(
    table: pa.Table, fitted: fit_clusters.FittedClusters, keyword_count: int, base_model: Path | str
) -> pa.Table:
    sample = sample_of(table)
    keywords = describe_clusters.cluster_keywords(sample, fitted, keyword_count, str(base_model))
    assigned = fit_clusters.assign(table, fitted.tree)
    counts = [
        describe_clusters.count_finest(part, fitted.tree.sizes)
        for part in (assigned.slice(0, 2), assigned.slice(2), assigned.slice(0, 0))
    ]
    return describe_clusters.cluster_table(keywords, fitted.tree, counts)


def test_fewer_items_than_clusters_is_an_error_with_both_numbers() -> None:
    with pytest.raises(InputError, match=r"8 clusters need .* only 5"):
        fit(with_traffic(items(5)), [4, 8])


def test_clusters_are_counted_and_weighed_at_every_level(base_model: Path) -> None:
    traffic = np.random.default_rng(1).integers(0, 9, 30).astype(float)
    table = add_traffic(items(30), traffic)
    fitted = fit(table, [2, 6])
    assigned = fit_clusters.assign(table, fitted.tree)[col.CLUSTER_IDS].to_pylist()
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
        fit_clusters.assign(with_traffic(items(2, 5)), fitted.tree)


def test_items_that_are_embedded_otherwise_have_no_features() -> None:
    fitted = fit(with_traffic(items(10)), [3])
    with pytest.raises(InputError, match="different lengths: 5 and 4"):
        fit_clusters.item_features(items(2, 5), fitted.projection)


@pytest.mark.parametrize("count", [0, 3])
def test_each_item_has_its_features(count: int) -> None:
    table = items(10)
    fitted = fit(with_traffic(table), [3])
    features = fit_clusters.item_features(table.slice(4, count), fitted.projection)
    assert features.schema == col.ITEM_FEATURES
    assert features[col.ITEM_ID].to_pylist() == table[col.ITEM_ID].to_pylist()[4 : 4 + count]
    whole = fit_clusters.item_features(table, fitted.projection)[col.FEATURES].to_pylist()
    for found, expected in zip(features[col.FEATURES].to_pylist(), whole[4:], strict=False):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_assigning_no_items_gives_no_rows() -> None:
    table = with_traffic(items(10))
    fitted = fit(table, [3])
    assert fit_clusters.assign(table.slice(0, 0), fitted.tree).num_rows == 0


def test_the_first_token_is_that_of_the_description_behind_a_prompt(base_model: Path) -> None:
    tokenizer = load_tokenizer(str(base_model))
    keywords = ["romance", "romcom", "sci-fi", "r&b", "été", "咖啡机", "x"]
    for rest in ("", ", running shoes"):
        assert describe_clusters.first_tokens(tokenizer, keywords) == [
            completion_token_ids(tokenizer, "Latest: tea\nNext:\n", keyword + rest)[0]
            for keyword in keywords
        ]


def test_no_keywords_have_no_first_tokens(base_model: Path) -> None:
    assert describe_clusters.first_tokens(load_tokenizer(str(base_model)), []) == []


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
    with pytest.raises(InputError, match=r"--base_model: the model '\./nowhere'"):
        list_clusters(table, fitted, 2, "./nowhere")


def test_what_cannot_be_measured_is_null_in_the_manifest() -> None:
    fitted = fit(with_traffic(items(4)), [4])
    named = pa.table({col.LEVEL: pa.array([0] * 4, pa.int32()), col.TRAFFIC: [1.0, 1.0, 1.0, 5.0]})
    figures = fit_clusters.quality_tally(named, fitted).figures
    assert figures["coherence"] == [None]
    assert figures["balance"] == [2.5]
