"""Transitions in language."""

import pyarrow as pa

from models.prompt import PromptTemplate
from transforms.examples import write_examples


def test_prompt_names_the_pair_and_completion_the_novel_cluster() -> None:
    transitions = pa.table(
        [pa.array([value], pa.int32()) for value in (2, 0, 1)], names=["c1", "c2", "novel"]
    )
    template = PromptTemplate.parse("{c1} then {c2}:\n")
    row = write_examples(transitions, ["tea, green", "salt", "bread"], template).to_pylist()[0]
    assert row == {
        "c1": 2,
        "c2": 0,
        "novel": 1,
        "prompt": "bread then tea, green:\n",
        "completion": "salt",
    }
