from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.prompt import DEFAULT_TEMPLATE, PromptTemplate, completion_token_ids
from tests.models.tiny_llm import save_tiny_llm


@given(before=st.text(), between=st.text(), after=st.text(), first=st.text(), second=st.text())
def test_any_text_survives_around_the_descriptions(before, between, after, first, second):
    def escaped(text):
        return text.replace("{", "{{").replace("}", "}}")

    text = f"{escaped(before)}{{c1}}{escaped(between)}{{c2}}{escaped(after)}"
    template = PromptTemplate.parse(text)
    assert template == PromptTemplate(before, between, after)
    assert template.render(first, second) == before + first + between + second + after


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
    ],
)
def test_a_bad_template_is_refused_and_shown(text):
    with pytest.raises(ValueError, match="prompt template") as error:
        PromptTemplate.parse(text)
    assert repr(text) in str(error.value)


def test_the_default_template_names_the_older_interest_long_before_the_end():
    template = PromptTemplate.parse(DEFAULT_TEMPLATE)
    assert len(template.before) > 3 * len(template.between + template.after)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    from transformers import AutoTokenizer

    folder: Path = save_tiny_llm(tmp_path_factory.mktemp("tiny"))
    return AutoTokenizer.from_pretrained(folder)


def test_prompt_and_completion_tokens_are_those_of_the_whole_text(tokenizer):
    prompt = PromptTemplate.parse(DEFAULT_TEMPLATE).render("heist, thriller", "space, opera")
    ids = completion_token_ids(tokenizer, prompt, "green tea, coffee")
    assert tokenizer.decode(ids) == "green tea, coffee"
    assert tokenizer(prompt).input_ids + ids == tokenizer(prompt + "green tea, coffee").input_ids


def test_a_completion_tokenises_alike_after_every_prompt_of_the_default_template(tokenizer):
    template = PromptTemplate.parse(DEFAULT_TEMPLATE)
    assert completion_token_ids(tokenizer, template.render("a", "b"), "chess") == (
        completion_token_ids(tokenizer, template.render("running", "{shoes}"), "chess")
    )


def test_a_prompt_that_merges_with_the_completion_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"merges the end of the prompt .*newline"):
        completion_token_ids(tokenizer, "Latest: roma", "nce")
