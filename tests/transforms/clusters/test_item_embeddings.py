"""Texts and embeddings of items."""

import pyarrow as pa
import pytest

from tests.transforms.clusters.item_tables import items
from transforms import schemas as col
from transforms.clusters.item_embeddings import embeddings_of, item_texts
from transforms.errors import InputError


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
    assert item_texts(table) == ["Tea | green, hot | from China", "salt"]


def test_embeddings_of_different_lengths_are_named() -> None:
    table = pa.concat_tables([items(3, 4), items(2, 5)])
    with pytest.raises(InputError, match=r"4 \(3 items\), 5 \(2 items\)"):
        embeddings_of(table)
