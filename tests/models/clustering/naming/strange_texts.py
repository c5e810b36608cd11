"""Texts of any characters, and what is left of them in a keyword."""

import unicodedata

from hypothesis import strategies as st

TEXT = st.text(max_size=40) | st.lists(
    st.sampled_from(
        ["the", "Star", "stars", "1999", "<|im_end|>", "&", "'s", "-", "火星", "İ", "क्"]
    )
).map(" ".join)


def is_clean(keyword):
    """Whether a keyword is made of words of letters, digits, marks and inner joiners."""
    kinds = {"L", "M", "N"}
    words = keyword.split(" ")
    return (
        keyword == unicodedata.normalize("NFKC", keyword)
        and "" not in words
        and words[0] != "&"
        and words[-1] != "&"
        and all(
            word == "&"
            or (
                word[0].isalnum()
                and word[-1] not in "-'&"
                and all(c in "-'&" or unicodedata.category(c)[0] in kinds for c in word)
            )
            for word in words
        )
    )
