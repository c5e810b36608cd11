"""Transitions in language."""

from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.language.prompt import Prompts, PromptTemplate
from tests.transforms.eager import run
from transforms.errors import InputError
from transforms.storage import files
from transforms.storage.manifest import RowCounts
from transforms.transitions import training_examples
from transforms.transitions.training_examples import (
    STARTS_FILE,
    WriteExamples,
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


def test_examples_are_written_as_many_at_a_time_as_memory_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pa.table([pa.array([0, 1, 2], pa.int32())] * 3, names=["c1", "c2", "novel"])
    prompts = make_prompts("none", TEMPLATE, NAMES)
    monkeypatch.setattr(training_examples, "_ROWS", 2)
    [tally] = run(
        lambda pipeline: {
            "tally": pipeline
            | beam.Create([(1, rows)])
            | WriteExamples(str(tmp_path), "train", 3, prompts)
        }
    )["tally"]
    written = pq.ParquetFile(tmp_path / "train" / "part-00001-of-00003.parquet")
    assert written.num_row_groups == 2
    assert written.read().equals(write_examples(rows, prompts))
    assert tally == RowCounts(written=3, files=tuple(files.folder_records(str(tmp_path))))


def test_prompts_are_read_as_they_were_written(tmp_path: Path) -> None:
    prompts = Prompts(("- tea then ", "salt then ", ".. bread then "), NAMES, ":\n")
    files.write_parquet(str(tmp_path), STARTS_FILE, prompt_starts(prompts))
    assert read_prompts(str(tmp_path), TEMPLATE, NAMES) == prompts


def test_model_without_a_tokenizer_is_named() -> None:
    template = PromptTemplate.parse("{filler}{c1} then {c2}:\n")
    with pytest.raises(InputError, match=r"--base_model: the model '\./nowhere'"):
        make_prompts("./nowhere", template, NAMES)
