"""A stage most of whose input is dead fails, and says why."""

import json

import apache_beam as beam
import pyarrow as pa
import pytest

from tests.transforms.eager import run
from transforms import schemas as col
from transforms.errors import InputError
from transforms.inputs import reasons
from transforms.inputs.check_dead_share import (
    CheckDeadShare,
    DeadReasons,
    check_share,
    count_reasons,
)
from transforms.storage.manifest import RowCounts


def dead(*rows: tuple[str, dict]) -> pa.Table:
    """Return DEAD_ROWS of (reason, values)."""
    own = {"input": "interactions"}
    lines = [json.dumps(values | own | {"reason": reason}) for reason, values in rows]
    return pa.table({"line": lines, "reason": [reason for reason, _ in rows]}, col.DEAD_ROWS)


def refusal(found: DeadReasons, read: int) -> list[str]:
    rows = RowCounts(read=read, used=read - sum(found.counts.values()))
    with pytest.raises(InputError) as error:
        check_share(rows, found, "interactions", 0.5)
    return str(error.value).splitlines()


def test_the_most_frequent_reasons_come_with_an_example_and_a_cure() -> None:
    future = [(reasons.FUTURE, {"user_id": "u" * 99, "timestamp": at}) for at in (3, 1, 2)]
    lines = [(reasons.MALFORMED_LINE, {"line": "a,b"})] * 2
    others = [(reasons.NO_USER, {"user_id": None}), (reasons.NO_ITEM, {"item_id": ""})]
    assert refusal(count_reasons(dead(*future, *lines, *others)), 10) == [
        "--interactions: 7 of 10 rows cannot be used; correct the input, or give "
        "--max_dead_share=1 to use the others",
        f"  3 x {reasons.FUTURE}, such as user_id={'u' * 37}... timestamp=1: "
        "give --timestamp_unit if these are not seconds",
        f"  2 x {reasons.MALFORMED_LINE}, such as 'a,b': see whether --delimiter is right",
        f"  1 x {reasons.NO_ITEM}, such as item_id=: {reasons.CURES[reasons.NO_ITEM]}",
    ]


def test_half_of_the_rows_may_be_dead() -> None:
    found = count_reasons(dead((reasons.NO_USER, {})))
    assert check_share(RowCounts(read=2, used=1), found, "items", 0.5) == RowCounts()
    assert check_share(RowCounts(read=1), found, "items", 1.0) == RowCounts()
    assert check_share(RowCounts(), DeadReasons(), "items", 0.5) == RowCounts()


def test_parts_add_up_in_any_order() -> None:
    parts = [
        count_reasons(dead((reasons.NO_USER, {"n": n}), (reasons.NO_ITEM, {"n": -n})))
        for n in range(3)
    ]
    assert parts[0] + parts[1] + parts[2] == parts[2] + (parts[1] + parts[0])


def test_every_reason_has_a_cure() -> None:
    names = {value for name, value in vars(reasons).items() if name.isupper() and name != "CURES"}
    assert {name for name in names if isinstance(name, str) and name[0] != "-"} <= set(
        reasons.CURES
    )


@pytest.mark.parametrize("used", [0, 2])
def test_the_transform_checks_the_sum_of_all_parts(used: int) -> None:
    def build(pipeline: beam.Pipeline) -> dict[str, beam.PCollection]:
        counts = [RowCounts(read=2, used=used), RowCounts(read=1)]
        tables = [dead((reasons.NO_USER, {}))] * (3 - used)
        written = pipeline | "Written" >> beam.Create([RowCounts()])
        found = pipeline | "Dead" >> beam.Create(tables).with_output_types(pa.Table)
        check = CheckDeadShare("items", 0.5, found, written)
        return {"checked": pipeline | "Counts" >> beam.Create(counts) | check}

    if used:
        assert run(build)["checked"] == [RowCounts()]
    else:
        with pytest.raises(InputError, match=r"--items: 3 of 3 rows cannot be used"):
            run(build)
