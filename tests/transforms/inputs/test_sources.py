"""The sources that the flags --interactions and --items may name."""

from pathlib import Path

import pytest

from transforms.errors import InputError
from transforms.inputs.sources import FileSource, QuerySource, TableSource, find_source


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("bq://my-project.shop.log", TableSource),
        ("SELECT * FROM `my-project.shop.log`", QuerySource),
        ("\n with a AS (SELECT 1) SELECT * FROM a", QuerySource),
    ],
)
def test_the_kind_follows_from_the_value(value: str, kind: type) -> None:
    assert type(find_source(value, "interactions")) is kind


def test_a_file_that_begins_like_a_query_is_a_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("selected.csv").write_text("user_id\n")
    assert type(find_source("selected.csv", "interactions")) is FileSource


def test_a_name_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(InputError, match=r"--items: 'shop.log' is not a BigQuery table"):
        find_source("bq://shop.log", "items")


@pytest.mark.parametrize("value", ["log.parquet", "SELECT 1", "SELECT " + "a, " * 50 + "b"])
def test_a_row_restriction_is_for_tables(value: str) -> None:
    with pytest.raises(InputError, match="--row_restriction is for BigQuery tables") as error:
        find_source(value, "interactions", row_restriction="a = 1")
    assert len(str(error.value)) < 250
