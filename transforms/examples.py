"""Transitions in language: what the LLM is asked and what it should answer."""

from collections.abc import Sequence

import pyarrow as pa

from models.language_model import load_tokenizer
from models.prompt import Prompts, PromptTemplate, aligned_starts
from transforms import files
from transforms import schemas as col
from transforms.errors import as_input_error

STARTS_FILE = "prompt_starts.parquet"


def make_prompts(base_model: str, template: PromptTemplate, descriptions: Sequence[str]) -> Prompts:
    """Make the prompts of all pairs of clusters, for the tokens of a language model.

    Raises
    ------
    InputError
        If its tokenizer can't be loaded.
    """
    with as_input_error("--base_model: "):
        tokenizer = load_tokenizer(base_model) if template.filled else None
    starts = aligned_starts(tokenizer, template, descriptions)
    return Prompts(tuple(starts), tuple(descriptions), template.after)


def prompt_starts(prompts: Prompts) -> pa.Table:
    """Return the PROMPT_STARTS of prompts."""
    ids = pa.array(range(len(prompts.starts)), pa.int32())
    return pa.table([ids, pa.array(prompts.starts)], schema=col.PROMPT_STARTS)


def read_prompts(
    transitions: str, template: PromptTemplate, descriptions: Sequence[str]
) -> Prompts:
    """Read the prompts that the examples in the folder of mine_transitions are made of."""
    table = files.read_parquet(files.join(transitions, STARTS_FILE), col.PROMPT_STARTS)
    starts = table.sort_by(col.CLUSTER_ID)[col.START].to_pylist()
    return Prompts(tuple(starts), tuple(descriptions), template.after)


def write_examples(transitions: pa.Table, prompts: Prompts) -> pa.Table:
    """Write prompt and completion of each transition out.

    Parameters
    ----------
    transitions
        Columns c1, c2, novel.

    Returns
    -------
    EXAMPLES, in the order of the transitions.
    """
    c1, c2, novel = (transitions[name].to_pylist() for name in (col.C1, col.C2, col.NOVEL))
    return pa.table(
        [
            *(transitions[name].combine_chunks() for name in (col.C1, col.C2, col.NOVEL)),
            pa.array(map(prompts.render, c1, c2), pa.string()),
            pa.array([prompts.descriptions[label] for label in novel], pa.string()),
        ],
        schema=col.EXAMPLES,
    )
