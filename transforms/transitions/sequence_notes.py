"""What the user should know of a log: equal times, and ids with an improbable share of it."""

from collections import Counter
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import schemas as col
from transforms.storage.manifest import RowCounts
from transforms.tables.combiners import SumFn

_TIED = 0.1  # share of engagements from which equal times are noted
_SHARE, _TIMES_MEAN = 0.1, 10  # share of the log, and times the mean, of an improbable id
_PLACEHOLDER_SHARE = 0.05
_PLACEHOLDERS = {
    "0",
    "-1",
    "unknown",
    "anonymous",
    "guest",
    "undefined",
    "none",
    "n/a",
    "-",
    "test",
}


@dataclass(frozen=True, eq=False)
class SequenceFacts:
    """Facts about SEQUENCES that add up."""

    engagements: int
    tied: int  # engagements at the same time as another one of the user
    users: int
    top_user: tuple[int, str]  # engagements, id
    items: np.ndarray  # [items] engagements

    def __add__(self, other: "SequenceFacts") -> "SequenceFacts":
        return SequenceFacts(
            self.engagements + other.engagements,
            self.tied + other.tied,
            self.users + other.users,
            max(self.top_user, other.top_user),
            self.items + other.items,
        )


def facts_of(sequences: pa.Table, items: int) -> SequenceFacts:
    """Return the facts about SEQUENCES of a catalogue of some items."""
    lengths = pc.list_value_length(sequences[col.ITEMS_OF_USER]).to_numpy()
    user = np.repeat(np.arange(len(lengths)), lengths)
    times = pc.list_flatten(sequences[col.TIMESTAMPS]).cast(pa.int64()).to_numpy()
    same = (user[1:] == user[:-1]) & (times[1:] == times[:-1])
    tied = np.append(same, False) | np.append(False, same) if len(user) else same
    top = (0, "")
    if len(lengths):
        longest = np.flatnonzero(lengths == lengths.max())
        ids = sequences[col.USER_ID].take(pa.array(longest)).to_pylist()
        top = (int(lengths.max()), max(ids))
    engaged = pc.list_flatten(sequences[col.ITEMS_OF_USER]).to_numpy()
    return SequenceFacts(
        len(user), int(tied.sum()), len(lengths), top, np.bincount(engaged, minlength=items)
    )


def notes_on(facts: SequenceFacts, item_ids: pa.Array) -> RowCounts:
    """Return the share of tied engagements as a figure, and notes on what is improbable."""
    if not facts.engagements:
        return RowCounts()
    share, notes = facts.tied / facts.engagements, {}
    if share > _TIED:
        notes[
            f"engagements ({share:.0%}) have the time of another one of the user; their order is "
            "drawn at random"
        ] = facts.tied
    top_item = int(facts.items.argmax())
    top_id = (int(facts.items[top_item]), item_ids[top_item].as_py())
    for name, (count, identifier), distinct in (
        ("user_id", facts.top_user, facts.users),
        ("item_id", top_id, int(np.count_nonzero(facts.items))),
    ):
        of_log = count / facts.engagements
        is_placeholder = identifier.lower() in _PLACEHOLDERS and of_log > _PLACEHOLDER_SHARE
        if is_placeholder or (
            of_log > _SHARE and count * distinct > _TIMES_MEAN * facts.engagements
        ):
            cure = "; if it stands for no user, give --anonymous_users" if name == "user_id" else ""
            notes[f"engagements ({of_log:.0%}) are of the {name} {identifier!r}{cure}"] = count
    return RowCounts(notes=Counter(notes), figures={"tied_share": round(share, 4)})


@dataclass(eq=False)
class NoteSequences(beam.PTransform):
    """(part, SEQUENCES) -> RowCounts with the notes on all of them."""

    item_clusters: beam.PCollection  # one tuple that begins with the ids of the catalogue's items

    def expand(self, parts: beam.PCollection[tuple[int, pa.Table]]) -> beam.PCollection[RowCounts]:
        known = beam.pvalue.AsSingleton(self.item_clusters)
        return (
            parts
            | "Facts" >> beam.Map(lambda part, items: facts_of(part[1], len(items[0])), known)
            | "Add" >> beam.CombineGlobally(SumFn()).without_defaults()
            | "Notes" >> beam.Map(lambda facts, items: notes_on(facts, items[0]), known)
        )
