"""Names of BigQuery tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.errors import InputError
from transforms.storage.bigquery_client import TableName


@pytest.mark.parametrize("text", ["my-project.shop.log", "example.com:shop-eu.d_1.log-2026"])
def test_a_name_is_what_was_parsed(text: str) -> None:
    assert str(TableName.parse(text, "items")) == text


@pytest.mark.parametrize(
    "text",
    ["", "shop.log", "p-1.d.t", "My-Project.shop.log", "my-project.shop.log`", "my-project.s;.log"],
)
def test_anything_else_is_refused_with_the_flag(text: str) -> None:
    with pytest.raises(InputError, match=r"--items: .* is not a BigQuery table"):
        TableName.parse(text, "items")


@given(st.text(max_size=30))
def test_no_name_ends_a_quoted_identifier(text: str) -> None:
    try:
        name = TableName.parse(f"my-project.shop.{text}", "items")
    except InputError:
        return
    assert not set(str(name)) & set("`'\"\\;\n ")
