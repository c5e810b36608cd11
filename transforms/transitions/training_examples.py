"""Training examples: prompt and completion of each transition."""

from collections.abc import Sequence
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from models.language.language_model import load_tokenizer
from models.language.prompt import Prompts, PromptTemplate, aligned_starts
from transforms import schemas as col
from transforms.errors import as_input_error
from transforms.storage import files
from transforms.storage.manifest import RowCounts
from transforms.tables.write_tables import shard_file

STARTS_FILE = "prompt_starts.parquet"
_ROWS = 1 << 18  # with texts in memory at once


def make_prompts(base_model: str, template: PromptTemplate, descriptions: Sequence[str]) -> Prompts:
    """Make the prompts of all pairs of clusters, aligned to the tokens of a language model.

    Raises InputError if its tokenizer cannot be loaded.
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
    """Read the prompts of the examples, from the folder of mine_transitions."""
    table = files.read_parquet(files.join(transitions, STARTS_FILE), col.PROMPT_STARTS)
    starts = table.sort_by(col.CLUSTER_ID)[col.START].to_pylist()
    return Prompts(tuple(starts), tuple(descriptions), template.after)


def write_examples(transitions: pa.Table, prompts: Prompts) -> pa.Table:
    """Turn rows with c1, c2 and novel into EXAMPLES."""
    c1, c2, novel = (transitions[name].combine_chunks() for name in (col.C1, col.C2, col.NOVEL))
    starts, descriptions = pa.array(prompts.starts), pa.array(prompts.descriptions)
    prompt = pc.binary_join_element_wise(starts.take(c1), descriptions.take(c2), prompts.after, "")
    return pa.table([c1, c2, novel, prompt, descriptions.take(novel)], schema=col.EXAMPLES)


@dataclass(eq=False)
class WriteExamples(beam.PTransform):
    """(shard, rows with c1, c2, novel) -> EXAMPLES in `<folder>/<name>/part-<shard>-of-...`.

    Texts take a hundred times the memory of the rows, so they are made one part at a time, during
    the write.
    """

    folder: str
    name: str
    shards: int
    prompts: Prompts

    def expand(
        self, sharded: beam.PCollection[tuple[int, pa.Table]]
    ) -> beam.PCollection[RowCounts]:
        return sharded | beam.MapTuple(self._write)

    def _write(self, shard: int, rows: pa.Table) -> RowCounts:
        parts = (
            write_examples(rows.slice(start, _ROWS), self.prompts)
            for start in range(0, rows.num_rows, _ROWS)
        )
        name = f"{self.name}/{shard_file(shard, self.shards)}"
        record = files.write_row_groups(self.folder, name, col.EXAMPLES, parts)
        Metrics.counter(WriteExamples, "rows_written").inc(rows.num_rows)
        return RowCounts(written=rows.num_rows, files=(record,))
