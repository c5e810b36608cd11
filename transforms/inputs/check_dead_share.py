"""Fails a stage most of whose input cannot be used, and says why."""

import json
from collections import Counter
from dataclasses import dataclass, field

import apache_beam as beam
import pyarrow as pa

from transforms.errors import InputError
from transforms.inputs.reasons import CURES
from transforms.storage.manifest import RowCounts
from transforms.tables.combiners import SumFn

_SHOWN = 3  # reasons
_LONGEST_VALUE = 40  # characters, of an example


@dataclass(frozen=True)
class DeadReasons:
    """How many rows are dead for each reason, and the first line by content as an example."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def __add__(self, other: "DeadReasons") -> "DeadReasons":
        examples = self.examples | other.examples
        for reason in self.examples.keys() & other.examples.keys():
            examples[reason] = min(self.examples[reason], other.examples[reason])
        return DeadReasons(self.counts + other.counts, examples)


def count_reasons(dead: pa.Table) -> DeadReasons:
    """Return the reasons of DEAD_ROWS."""
    found = dead.group_by("reason").aggregate([("line", "count"), ("line", "min")])
    names = found["reason"].to_pylist()
    return DeadReasons(
        Counter(dict(zip(names, found["line_count"].to_pylist(), strict=True))),
        dict(zip(names, found["line_min"].to_pylist(), strict=True)),
    )


def check_share(rows: RowCounts, found: DeadReasons, name: str, most: float) -> RowCounts:
    """Raise InputError if more than the share `most` of the rows of --`name` is dead.

    Its first line is followed by the most frequent reasons, each with an example and a cure.
    """
    dead = rows.read - rows.used
    if dead <= most * rows.read:
        return RowCounts()
    lines = reason_lines(found)[:_SHOWN]
    raise InputError(
        f"--{name}: {dead:,} of {rows.read:,} rows cannot be used; correct the input, or give "
        "--max_dead_share=1 to use the others" + "".join(f"\n  {line}" for line in lines)
    )


def reason_lines(found: DeadReasons) -> list[str]:
    """Return a line for each reason, the most frequent first, with an example and a cure."""
    return [
        f"{count:,} x {reason}, such as {_shortened(found.examples[reason])}: {CURES[reason]}"
        for reason, count in sorted(found.counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def _shortened(line: str) -> str:
    """Return the row of a line of the dead letter with short values."""
    values = json.loads(line)
    row = {name: values[name] for name in values if name not in ("input", "reason")}
    texts = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in row.items()
    }
    if list(texts) == ["line"]:
        return repr(_cut(texts["line"]))
    return " ".join(f"{name}={_cut(text)}" for name, text in list(texts.items())[:8])


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


@dataclass(eq=False)
class CheckDeadShare(beam.PTransform):
    """RowCounts of an input -> empty RowCounts, or `check_share` raises.

    It waits for the dead letter, which so is there when the stage fails.
    """

    name: str  # of the flag
    most: float  # share of the rows
    dead: beam.PCollection  # DEAD_ROWS of the input
    dead_letter: beam.PCollection  # RowCounts of the dead letter

    def expand(self, counts: beam.PCollection[RowCounts]) -> beam.PCollection[RowCounts]:
        reasons = (
            self.dead
            | "Reasons" >> beam.Map(count_reasons)
            | "AddReasons" >> beam.CombineGlobally(SumFn(DeadReasons))
        )
        return (
            counts
            | "AddCounts" >> beam.CombineGlobally(SumFn(RowCounts))
            | "Check"
            >> beam.Map(
                lambda rows, found, _, name, most: check_share(rows, found, name, most),
                beam.pvalue.AsSingleton(reasons),
                beam.pvalue.AsList(self.dead_letter),
                self.name,
                self.most,
            )
        )
