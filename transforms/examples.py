"""Transitions in language: what the LLM is asked and what it should answer."""

from collections.abc import Sequence

import pyarrow as pa

from models.prompt import PromptTemplate
from transforms import schemas as col


def write_examples(
    transitions: pa.Table, descriptions: Sequence[str], template: PromptTemplate
) -> pa.Table:
    """Write prompt and completion of each transition out.

    Parameters
    ----------
    transitions
        Columns c1, c2, novel.
    descriptions
        [M] of the clusters.

    Returns
    -------
    EXAMPLES, in the order of the transitions.
    """
    c1, c2, novel = (transitions[name].to_pylist() for name in (col.C1, col.C2, col.NOVEL))
    return pa.table(
        [
            *(transitions[name].combine_chunks() for name in (col.C1, col.C2, col.NOVEL)),
            pa.array(
                [
                    template.render(descriptions[older], descriptions[newest])
                    for older, newest in zip(c1, c2, strict=True)
                ],
                pa.string(),
            ),
            pa.array([descriptions[label] for label in novel], pa.string()),
        ],
        schema=col.EXAMPLES,
    )
