"""Items into clusters: the table functions around the tree."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.language_model import load_tokenizer
from models.prompt import completion_token_ids
from tests.models.tiny_llm import save_tiny_llm
from transforms import clusters
from transforms import schemas as col
from transforms.errors import InputError


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
    return clusters.add_traffic(table, clusters.TRAFFIC_COUNTS.empty_table())


def fit(
    table: pa.Table, sizes: list[int], size: int = 1_000, previous: str | None = None
) -> clusters.FittedClusters:
    return clusters.fit_tree(clusters.weighted_sample(table, size, 0), sizes, size, 0, previous)


def test_traffic_of_an_item_is_its_interactions() -> None:
    ids = pa.array(["item00", "item01", "item02"])
    counts = [
        clusters.count_traffic(pa.table({"item": pa.array(part, pa.int32())}), ids)
        for part in ([0, 1, 1], [1])
    ]
    found = clusters.add_traffic(items(3), pa.concat_tables(counts))
    assert found[col.TRAFFIC].to_pylist() == [1.0, 3.0, 0.0]


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
    table = clusters.add_traffic(
        items(30), pa.table([["item00", "item07"], [5.0, 2.0]], schema=clusters.TRAFFIC_COUNTS)
    )
    fitted = fit(table, [2, 6])
    named = clusters.cluster_table(clusters.assign(table, fitted.tree), fitted, 2, str(base_model))
    for level, size in enumerate((2, 6)):
        rows = [row for row in named.to_pylist() if row["level"] == level]
        assert [row["cluster_id"] for row in rows] == list(range(size))
        assert sum(row["item_count"] for row in rows) == 30
        assert sum(row["traffic"] for row in rows) == 7.0
        assert all((row["parent_id"] is None) == (level == 0) for row in rows)


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
    named = clusters.cluster_table(clusters.assign(table, fitted.tree), fitted, 1, str(base_model))
    assert set(named[col.DESCRIPTION].to_pylist()) == {"romance", "mystery", "green"}


def test_a_base_model_that_is_not_there_is_an_error() -> None:
    table = with_traffic(items(6))
    fitted = fit(table, [3])
    with pytest.raises(InputError, match=r"--base_model: the language model '\./nowhere'"):
        clusters.cluster_table(clusters.assign(table, fitted.tree), fitted, 2, "./nowhere")


def test_the_sample_of_parts_is_the_sample_of_all() -> None:
    table = with_traffic(items(50))
    parts = [clusters.weighted_sample(table.slice(at, 10), 12, 3) for at in (30, 0, 40, 10, 20)]
    merged = clusters.weighted_sample(pa.concat_tables(parts), 12, 3).sort_by(col.ITEM_ID)
    assert merged.num_rows == 13
    assert merged.equals(clusters.weighted_sample(table, 12, 3))
    assert not merged.equals(clusters.weighted_sample(table, 12, 4))


def test_what_cannot_be_measured_is_null_in_the_manifest() -> None:
    fitted = fit(with_traffic(items(4)), [4])
    named = pa.table({col.LEVEL: pa.array([0] * 4, pa.int32()), col.TRAFFIC: [1.0, 1.0, 1.0, 5.0]})
    figures = clusters.quality_tally(named, fitted).figures
    assert figures["coherence"] == [None]
    assert figures["balance"] == [2.5]
