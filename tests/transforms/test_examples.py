"""Transitions in language."""

from pathlib import Path

import pyarrow as pa
import pytest

from models.prompt import Prompts, PromptTemplate
from transforms import files
from transforms.errors import InputError
from transforms.examples import (
    STARTS_FILE,
    make_prompts,
    prompt_starts,
    read_prompts,
    write_examples,
)

TEMPLATE = PromptTemplate.parse("{c1} then {c2}:\n")
NAMES = ("tea, green", "salt", "bread")


def test_prompt_names_the_pair_and_completion_the_novel_cluster() -> None:
    transitions = pa.table(
        [pa.array([value], pa.int32()) for value in (2, 0, 1)], names=["c1", "c2", "novel"]
    )
    row = write_examples(transitions, make_prompts("none", TEMPLATE, NAMES)).to_pylist()[0]
    assert row == {
        "c1": 2,
        "c2": 0,
        "novel": 1,
        "prompt": "bread then tea, green:\n",
        "completion": "salt",
    }


def test_prompts_are_read_as_they_were_written(tmp_path: Path) -> None:
    prompts = Prompts(("- tea then ", "salt then ", ".. bread then "), NAMES, ":\n")
    files.write_parquet(str(tmp_path), STARTS_FILE, prompt_starts(prompts))
    assert read_prompts(str(tmp_path), TEMPLATE, NAMES) == prompts


def test_model_without_a_tokenizer_is_named() -> None:
    template = PromptTemplate.parse("{filler}{c1} then {c2}:\n")
    with pytest.raises(InputError, match=r"--base_model: the language model '\./nowhere'"):
        make_prompts("./nowhere", template, NAMES)
