"""Mines the transitions between interest clusters from the sequences of users, and counts them."""

from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from models.interests.recent_pairs import recent_clusters, run_starts
from transforms import schemas as col
from transforms.transitions.splits import SPLITS, SplitSpec, on_side_of_cut

_ID_BITS = 21  # of a cluster id when three of them are packed into one integer


def mine_transitions(sequences: pa.Table, clusters: np.ndarray, earlier: int = 2) -> pa.Table:
    """Find every transition ((c1, ..., cK) -> novel) of users, in the order of users and time.

    A transition is the first engagement of a user with a cluster, after engagements with other
    clusters; c1, ..., cK are the K = `earlier` clusters with the latest engagements before it,
    older first. A user with fewer clusters has the oldest one in place of the missing ones.

    `sequences` are SEQUENCES with each user once, `clusters` [items] int32 the cluster of each
    item. Returns user_id, c1 to cK, novel and the timestamp: TRANSITIONS for K = 2.
    """
    lengths = pc.list_value_length(sequences[col.ITEMS_OF_USER]).to_numpy()
    user = np.repeat(np.arange(len(lengths)), lengths)
    cluster = clusters[pc.list_flatten(sequences[col.ITEMS_OF_USER]).to_numpy()].astype(np.int64)
    times = pc.list_flatten(sequences[col.TIMESTAMPS]).to_numpy()

    begins = run_starts(user, cluster)
    user, cluster, times = user[begins], cluster[begins], times[begins]
    same_user = np.zeros(len(user), bool)  # as the run before
    same_user[1:] = user[1:] == user[:-1]
    at = _first_of_each((user << _ID_BITS) | cluster)
    at = at[same_user[at]]
    recent = recent_clusters(user, cluster, at - 1, earlier)
    ids = {f"c{earlier - rank}": found for rank, found in enumerate(recent.T)} | {
        col.NOVEL: cluster[at]
    }
    return pa.table(
        {
            col.USER_ID: sequences[col.USER_ID].combine_chunks().take(pa.array(user[at])),
            **{name: pa.array(ids[name], pa.int32()) for name in sorted(ids)},
            col.TIMESTAMP: pa.array(times[at]).cast(col.TIME_TYPE),
        }
    )


def _first_of_each(key: np.ndarray) -> np.ndarray:
    """Return the positions at which each key occurs for the first time, ascending."""
    order = np.argsort(key)
    return np.sort(np.minimum.reduceat(order, _starts(key[order]))) if len(key) else order


def _starts(ordered: np.ndarray) -> np.ndarray:
    """Return the positions at which runs of equal values begin."""
    return np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])


def count_transitions(transitions: pa.Table) -> pa.Table:
    """Count the users of each (c1, c2, novel): TRANSITION_COUNTS sorted by (novel, c1, c2).

    A user makes each transition at most once.
    """
    key = np.sort(pack(transitions))
    starts = _starts(key)
    return _counts(key[starts], np.diff(starts, append=len(key)))


def sum_counts(counts: pa.Table) -> pa.Table:
    """Add the TRANSITION_COUNTS of different users, sorted by (novel, c1, c2)."""
    key = pack(counts)
    order = np.argsort(key)
    key, users = key[order], counts[col.USERS].to_numpy()[order]
    starts = _starts(key)
    return _counts(key[starts], np.add.reduceat(users, starts) if len(starts) else users)


def pack(table: pa.Table) -> np.ndarray:
    """Return (novel, c1, c2) of each row as one integer with the same order, [rows] int64."""
    novel, c1, c2 = (
        table[name].to_numpy().astype(np.int64) for name in (col.NOVEL, col.C1, col.C2)
    )
    return (novel << 2 * _ID_BITS) | (c1 << _ID_BITS) | c2


def _counts(key: np.ndarray, users: np.ndarray) -> pa.Table:
    mask = (1 << _ID_BITS) - 1
    ids = ((key >> _ID_BITS) & mask, key & mask, key >> 2 * _ID_BITS)  # c1, c2, novel
    return pa.table([*(pa.array(one, pa.int32()) for one in ids), users], col.TRANSITION_COUNTS)


def mine_by_split(
    sequences: pa.Table, clusters: np.ndarray, spec: SplitSpec
) -> Iterator[beam.pvalue.TaggedOutput]:
    """Mine the TRANSITIONS of each split, on its side of the cut, tagged by the split."""
    for split in SPLITS:
        mined = mine_transitions(spec.users(sequences, split), clusters)
        of_split = on_side_of_cut(mined, split, spec.cut)
        Metrics.counter(__name__, f"{split}_transitions").inc(of_split.num_rows)
        yield beam.pvalue.TaggedOutput(split, of_split)
