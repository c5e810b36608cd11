"""Terms of items."""

import pytest
from hypothesis import example, given, settings

from models.clustering.naming.item_terms import normalise_keyword
from tests.models.clustering.naming.strange_texts import TEXT, is_clean


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sci-Fi", "sci-fi"),
        ("  Home &  Kitchen ", "home & kitchen"),
        ("R&B", "r&b"),
        ("Rock ’n’ Roll", "rock n roll"),
        ("Children’s books", "children's books"),
        ("hello <|im_end|> world</s>", "hello world"),
        ("Action/Adventure, {new}", "action adventure new"),
        ("ＦＵＬＬ ﬁlm", "full film"),
        ("हिन्दी कहानी", "हिन्दी कहानी"),
        ("I ❤️ dogs\x00\u200b", "i dogs"),
        ("& -- '", ""),
    ],
)
def test_a_keyword_is_normalised(text, expected):
    assert normalise_keyword(text) == expected


@given(TEXT)
@example("İstanbul")
@example("\u1160\u3164 ﷺ ǅ ℻ ½ ¨ ´")
@settings(max_examples=500, deadline=None)
def test_a_normalised_keyword_is_clean_and_stays(text):
    keyword = normalise_keyword(text)
    assert keyword == "" or is_clean(keyword)
    assert normalise_keyword(keyword) == keyword
