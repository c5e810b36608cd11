"""Counts how often an interest follows another; see models.interests.follow_lift."""

from dataclasses import dataclass
from functools import partial

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.interests.follow_lift import UNIT, FollowLift, cosine_similarity, count_follows
from transforms import schemas as col
from transforms.storage import files
from transforms.tables.combiners import SumFn

AFFINITY_FILE = "affinity.parquet"


def interests_in_order(transitions: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return user numbers and clusters [interests] of users, in the order of the first engagements.

    `transitions` are all TRANSITIONS of some users, in the order of users and time.
    """
    user = pc.rank(transitions[col.USER_ID], tiebreaker="dense").to_numpy().astype(np.int64)
    first = np.flatnonzero(np.append(True, user[1:] != user[:-1])[: len(user)])
    # The first transition of a user follows one more interest.
    known = transitions[col.C2].to_numpy()[first]
    novel = transitions[col.NOVEL].to_numpy()
    return np.insert(user, first, user[first]), np.insert(novel, first, known)


def follows_table(follows: np.ndarray) -> pa.Table:
    """Return the AFFINITY of counts, [M, M], sorted by (known, novel)."""
    known, novel = np.nonzero(follows)
    weight = follows[known, novel] * UNIT
    return pa.table([known.astype(np.int32), novel.astype(np.int32), weight], schema=col.AFFINITY)


def read_affinity(transitions: str, embeddings: np.ndarray) -> FollowLift:
    """Read the counts from the folder of mine_transitions; clusters have embeddings [M, F]."""
    table = files.read_parquet(files.join(transitions, AFFINITY_FILE), col.AFFINITY)
    known, novel, weight = (table[name].to_numpy() for name in col.AFFINITY.names)
    follows = np.zeros((len(embeddings),) * 2, np.int64)
    follows[known, novel] = np.rint(weight / UNIT)
    return FollowLift.from_counts(follows, cosine_similarity(embeddings))


@dataclass(eq=False)
class CountFollows(beam.PTransform):
    """TRANSITIONS, all of a user in one table -> one table of AFFINITY."""

    clusters: int

    def expand(self, transitions: beam.PCollection[pa.Table]) -> beam.PCollection[pa.Table]:
        none = partial(np.zeros, (self.clusters, self.clusters), np.int64)
        return (
            transitions
            | "Count"
            >> beam.Map(lambda table: count_follows(*interests_in_order(table), self.clusters))
            | "Sum" >> beam.CombineGlobally(SumFn(none))
            | "Table" >> beam.Map(follows_table).with_output_types(pa.Table)
        )
