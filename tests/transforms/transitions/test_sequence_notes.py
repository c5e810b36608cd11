"""What is said of a log with equal times and of improbable users and items."""

import apache_beam as beam
import numpy as np
import pyarrow as pa

from tests.transforms.eager import run
from transforms import schemas as col
from transforms.storage.manifest import RowCounts
from transforms.transitions.sequence_notes import NoteSequences, facts_of, notes_on

ITEM_IDS = pa.array([f"item {number}" for number in range(40)])


def sequences(users: dict[str, list[tuple[int, int]]]) -> pa.Table:
    """Return the SEQUENCES of users with (time, item)."""
    rows = [
        {"user_id": user, "timestamps": [time for time, _ in rows], "items": [i for _, i in rows]}
        for user, rows in users.items()
    ]
    return pa.Table.from_pylist(rows, schema=col.SEQUENCES)


def notes(users: dict[str, list[tuple[int, int]]]) -> list[str]:
    return sorted(notes_on(facts_of(sequences(users), len(ITEM_IDS)), ITEM_IDS).notes)


DISTINCT = {f"u{user}": [(time, (user + time) % 40) for time in range(4)] for user in range(40)}


def test_of_an_ordinary_log_there_is_nothing_to_say() -> None:
    found = notes_on(facts_of(sequences(DISTINCT), 40), ITEM_IDS)
    assert found == RowCounts(figures={"tied_share": 0.0})


def test_equal_times_of_a_user_are_tied() -> None:
    tied = sequences({"u": [(1, 0), (1, 1), (2, 2)], "v": [(2, 0), (3, 1)], "w": []})
    assert (facts_of(tied, 3).tied, facts_of(tied, 3).engagements) == (2, 5)
    found = notes_on(facts_of(tied, 40), ITEM_IDS)
    assert found.figures == {"tied_share": 0.4}
    [(note, count)] = [(n, c) for n, c in found.notes.items() if "time" in n]
    assert note.startswith("engagements (40%) have the time of another one of the user")
    assert count == 2


def test_a_user_with_much_of_the_log_is_named() -> None:
    said = notes(DISTINCT | {"42": [(time, time % 40) for time in range(80)]})
    assert said == [
        "engagements (33%) are of the user_id '42'; if it stands for no user, give "
        "--anonymous_users"
    ]


def test_a_placeholder_is_named_sooner() -> None:
    assert "of the user_id '0'" in notes(DISTINCT | {"0": [(time, time) for time in range(12)]})[0]


def test_an_item_with_much_of_the_log_is_named() -> None:
    log = {user: [*rows, *((9 + time, 7) for time in range(4))] for user, rows in DISTINCT.items()}
    assert notes(log) == ["engagements (51%) are of the item_id 'item 7'"]


def test_parts_add_up() -> None:
    both = DISTINCT | {"0": [(1, 1)] * 60}
    parts = [
        {u: rows for u, rows in both.items() if (u < "u3") == first} for first in (True, False)
    ]
    catalogue = (ITEM_IDS, np.zeros(40, np.int32))
    [found] = run(
        lambda pipeline: {
            "notes": pipeline
            | beam.Create(list(enumerate(map(sequences, parts))))
            | NoteSequences(pipeline | "Items" >> beam.Create([catalogue]))
        }
    )["notes"]
    assert found == notes_on(facts_of(sequences(both), 40), ITEM_IDS)
