from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.language.prompt import (
    BLOCK_TOKENS,
    DEFAULT_TEMPLATE,
    Prompts,
    PromptTemplate,
    aligned_starts,
    completion_token_ids,
)
from tests.models.language.tiny_llm import save_tiny_llm


@given(before=st.text(), between=st.text(), after=st.text(), filled=st.booleans())
def test_any_text_survives_around_the_descriptions(before, between, after, filled):
    def escaped(text):
        return text.replace("{", "{{").replace("}", "}}")

    text = f"{escaped(before)}{{c1}}{escaped(between)}{{c2}}{escaped(after)}"
    parsed = PromptTemplate.parse("{filler}" * filled + text)
    assert parsed == PromptTemplate(before, between, after, filled)


def test_prompt_names_the_older_interest_before_the_newest():
    prompts = Prompts(("tea, then ", "salt, then "), ("tea", "salt"), "!")
    assert prompts.render(1, 0) == "salt, then tea!"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no placeholder",
        "only {c1}",
        "{c2} before {c1}",
        "{c1} {c1} {c2}",
        "{c1} {c2} {c3}",
        "{c1} {c2} {}",
        "{c1!r} {c2}",
        "{c1:>9} {c2}",
        "{c1.upper} {c2}",
        "{c1} {c2} {",
        "{c1} {c2} }",
        "{c1} {filler} {c2}",
    ],
)
def test_a_bad_template_is_refused_and_shown(text):
    with pytest.raises(ValueError, match="prompt template") as error:
        PromptTemplate.parse(text)
    assert repr(text) in str(error.value)


def test_the_default_template_names_the_older_interest_long_before_the_end():
    template = PromptTemplate.parse(DEFAULT_TEMPLATE)
    assert len(template.before) > 2 * len(template.between + template.after)


def render(text: str, older: str, newest: str) -> str:
    template = PromptTemplate.parse(text)
    return template.start(older) + newest + template.after


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    from transformers import AutoTokenizer

    folder: Path = save_tiny_llm(tmp_path_factory.mktemp("tiny"))
    return AutoTokenizer.from_pretrained(folder)


def test_prompt_and_completion_tokens_are_those_of_the_whole_text(tokenizer):
    prompt = render(DEFAULT_TEMPLATE, "heist, thriller", "space, opera")
    ids = completion_token_ids(tokenizer, prompt, "green tea, coffee")
    assert tokenizer.decode(ids) == "green tea, coffee"
    assert tokenizer(prompt).input_ids + ids == tokenizer(prompt + "green tea, coffee").input_ids


def test_a_completion_tokenises_alike_after_every_prompt_of_the_default_template(tokenizer):
    one, other = ("a", "b"), ("running", "{shoes}")
    assert completion_token_ids(tokenizer, render(DEFAULT_TEMPLATE, *one), "chess") == (
        completion_token_ids(tokenizer, render(DEFAULT_TEMPLATE, *other), "chess")
    )


names = st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=6, unique=True)


@given(names)
def test_what_prompts_of_a_cluster_share_fills_whole_blocks(tokenizer, descriptions):
    template = PromptTemplate.parse("{filler}Earlier: {c1}\nLatest:\n{c2}\nNext:\n")
    for start in aligned_starts(tokenizer, template, descriptions):
        ids = [tokenizer(start + text)["input_ids"] for text in [*descriptions, "a", "1"]]
        shared = next(
            (at for at, column in enumerate(zip(*ids, strict=False)) if len(set(column)) > 1),
            min(map(len, ids)),
        )
        assert shared % BLOCK_TOKENS == 0


def test_without_a_place_for_it_there_is_no_filler():
    template = PromptTemplate.parse("{c1} then {c2}")
    assert aligned_starts(None, template, ["tea", "salt"]) == ["tea then ", "salt then "]


def test_a_prompt_that_merges_with_the_completion_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"merges the end of the prompt .*newline"):
        completion_token_ids(tokenizer, "Latest: roma", "nce")
